"""The registry finds a module for each kind by the kind's name alone."""

import inspect
import sys

import pytest

from streamswarm import contract
from worker import probes


@pytest.mark.parametrize("kind", list(contract.kinds()))
def test_every_kind_of_the_contract_has_a_probe(kind: str) -> None:
    """A module named after the kind, with the two functions."""
    module = probes.load(kind)
    assert inspect.iscoroutinefunction(module.run)
    assert list(inspect.signature(module.run).parameters) == ["target", "spec", "context"]
    assert isinstance(module.availability().available, bool)


def test_unknown_kinds_are_refused() -> None:
    """Names that are not kinds never reach the import system."""
    for name in ("nonsense", "../ping", "ping.os", ""):
        with pytest.raises(contract.UnknownKindError):
            probes.load(name)


def test_a_kind_without_a_library_is_unavailable_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """One missing package takes one kind away, and says so."""
    monkeypatch.delitem(sys.modules, "worker.probes.system", raising=False)
    monkeypatch.delattr(probes, "system", raising=False)
    monkeypatch.setitem(sys.modules, "psutil", None)
    found = probes.availability()
    assert set(found) == set(contract.kinds())
    assert not found["system"].available
    assert "psutil" in found["system"].reason
    assert found["tcp"].available


def test_a_kind_without_a_module_is_unavailable_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a worker's release lacks a file."""
    monkeypatch.setattr(probes, "__name__", "worker.spool")
    found = probes.availability()
    assert not found["system"].available
    assert "no module for kind `system`" in found["system"].reason
