"""What this host can measure."""

from __future__ import annotations

from collections.abc import Iterator

from streamswarm.findings import Finding, ok, wrong
from worker import probes
from worker.policy import Policy


def available(policy: Policy) -> Iterator[Finding]:
    """Yield a finding for each kind; one that cannot be mended here, or that the policy leaves out, is not wrong."""
    for kind, state in probes.availability().items():
        name = f"kind {kind}"
        if policy.kinds and kind not in policy.kinds:
            yield ok(name, "left out by this host's policy")
        elif state.available:
            yield ok(name, "available")
        elif state.mend:
            yield wrong(name, f"not available: {state.reason}", state.mend)
        else:
            yield ok(name, f"not on this host: {state.reason}")
