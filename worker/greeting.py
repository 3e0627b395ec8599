"""What a worker says of itself when it opens a session."""

from __future__ import annotations

from collections.abc import Iterable

from streamswarm import CONTRACT_VERSION, __version__
from streamswarm.v1 import gateway_pb2
from worker.config import WorkerConfig
from worker.facts import facts
from worker.policy import Policy


def greeting(
    config: WorkerConfig,
    policy: Policy,
    *,
    instance_id: str,
    boot_id: str,
    kinds: Iterable[gateway_pb2.KindAvailability],
) -> gateway_pb2.Hello:
    """Return the Hello of a worker that can run these kinds, with the host's facts as they are now."""
    return gateway_pb2.Hello(
        worker_version=__version__,
        contract_version=CONTRACT_VERSION,
        instance_id=instance_id,
        boot_id=boot_id,
        kinds=kinds,
        facts=facts(config.host_name),
        policy_json=policy.as_json(),
    )
