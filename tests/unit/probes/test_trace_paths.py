"""Paths are compared so that silence changes nothing, and a hash names each."""

from worker.wire.trace.paths import Memory, Path

USUAL = Path(hops={1: ("192.0.2.1",), 2: ("192.0.2.2",), 3: ("198.51.100.1",)}, distance=3)


def test_the_hash_depends_on_addresses_and_their_places() -> None:
    """It fits the integers of JavaScript, and is the same everywhere: this value never changes."""
    assert USUAL.hash == 264769754760543
    other = Path(hops={1: ("192.0.2.1",), 3: ("192.0.2.2",), 4: ("198.51.100.1",)}, distance=4)
    assert other.hash != USUAL.hash
    assert 0 <= USUAL.hash < 2**48


def test_the_first_run_has_nothing_to_compare_with() -> None:
    """Unknown is neither yes nor no."""
    memory = Memory()
    assert memory.changed("a", USUAL) is None
    assert memory.changed("a", USUAL) is False
    assert memory.changed("b", USUAL) is None


def test_another_router_is_a_change_once() -> None:
    """The run after it is compared with the new path."""
    memory = Memory()
    memory.changed("a", USUAL)
    other = Path(hops={**USUAL.hops, 2: ("192.0.2.99",)}, distance=3)
    assert memory.changed("a", other) is True
    assert memory.changed("a", other) is False


def test_another_distance_is_a_change() -> None:
    """Also when all routers between are silent."""
    memory = Memory()
    memory.changed("a", Path(hops={3: ("198.51.100.1",)}, distance=3))
    assert memory.changed("a", Path(hops={4: ("198.51.100.1",)}, distance=4)) is True


def test_silence_is_no_change_and_does_not_hide_one() -> None:
    """A hop that is silent for a run is still compared with what it was before."""
    memory = Memory()
    memory.changed("a", USUAL)
    silent = Path(hops={1: ("192.0.2.1",), 3: ("198.51.100.1",)}, distance=3)
    assert memory.changed("a", silent) is False
    other = Path(hops={**USUAL.hops, 2: ("192.0.2.99",)}, distance=3)
    assert memory.changed("a", other) is True


def test_a_hop_with_several_addresses_has_changed_when_none_is_left() -> None:
    """Routers that share the load take turns."""
    memory = Memory()
    memory.changed("a", Path(hops={1: ("192.0.2.1", "192.0.2.2")}, distance=None))
    assert memory.changed("a", Path(hops={1: ("192.0.2.2", "192.0.2.3")}, distance=None)) is False
    assert memory.changed("a", Path(hops={1: ("192.0.2.9",)}, distance=None)) is True
