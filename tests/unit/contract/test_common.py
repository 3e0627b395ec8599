"""What every kind that crosses a network has, in the same words."""

from __future__ import annotations

import pytest

from streamswarm import contract
from streamswarm.contract import InvalidInputError

KINDS = [kind for kind in contract.kinds().values() if kind.target != "none"]
#: `qos` has classes of traffic, each with a code point of its own.
EXCEPTIONS = {("qos", "dscp")}


@pytest.mark.parametrize("name", ["dscp", "address_family", "source", "must_be_unreachable"])
def test_common_parameters_are_the_same_in_every_kind(name: str) -> None:
    """Label, description, bounds and default: whoever knows one kind knows them all."""
    parameters = {kind.name: kind.parameter(name) for kind in KINDS if (kind.name, name) not in EXCEPTIONS}
    assert len(set(parameters.values())) == 1, parameters


@pytest.mark.parametrize("source", ["", "192.0.2.1", "2001:db8::1", "fe80::1%eth0", "eth0", "br-0a1b2c.100"])
def test_sources_are_addresses_or_names_of_interfaces(source: str) -> None:
    """Empty leaves it to the routes."""
    assert contract.spec_values(contract.make_spec("tcp", {"source": source}))["source"] == source


@pytest.mark.parametrize("source", [" ", "eth 0", "eth0\n", "x" * 64, "eth\0", "ethé"])
def test_other_sources_are_refused(source: str) -> None:
    """White space, control characters, overlong names."""
    with pytest.raises(InvalidInputError, match=r"spec\.source"):
        contract.make_spec("ping", {"source": source})


@pytest.mark.parametrize("name", ["bytes_sent", "bytes_received"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_tells_its_own_bytes(kind: contract.Kind, name: str) -> None:
    """Those of its packets or of its connections, never the host's: the description says which."""
    metric = kind.metric(name)
    assert (metric.unit, metric.role, metric.group) == ("By", "volume", "Volume")
    assert metric.description.startswith("Bytes ")
