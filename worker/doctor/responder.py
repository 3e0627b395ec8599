"""Whether the responder that the policy allows can answer anybody."""

from __future__ import annotations

from collections.abc import Iterator

from streamswarm.findings import Finding, ok, wrong
from worker.config import WorkerConfig
from worker.policy import Policy


def look(config: WorkerConfig, policy: Policy) -> Iterator[Finding]:
    """Yield a finding where the policy has a responder."""
    if policy.responder is None:
        return
    name = "responder"
    if not config.responder_keys:
        yield wrong(
            name,
            f"nobody is answered on UDP port {policy.responder}: there is no key",
            "set `responder_key` in the configuration to the text that the workers share",
        )
    elif policy.responder_silence:
        yield wrong(
            name,
            f"nobody is answered on UDP port {policy.responder}: {policy.responder_silence}",
            "add the networks of those who ask to `allow` in the policy",
        )
    else:
        until = "" if len(config.responder_keys) == 1 else "; the previous key is taken, too"
        yield ok(name, f"answers on UDP port {policy.responder}{until}")
