"""Who gives way to whom among the threads of a keeper."""

from __future__ import annotations

import threading

from controller.keeper.precedence import Precedence


def test_others_give_way_until_the_last_is_done() -> None:
    """With two that have it, one of them done is not enough."""
    precedence = Precedence(longest_s=30)
    found: list[bool] = []
    other = threading.Thread(target=lambda: found.append(precedence.give_way()))
    with precedence.taken():
        with precedence.taken():
            other.start()
        other.join(0.1)
        assert other.is_alive()
        assert not found
    other.join(10)
    assert found == [True]


def test_nobody_gives_way_for_ever() -> None:
    """Where somebody always has precedence, others go on after a while; where nobody has, at once."""
    precedence = Precedence(longest_s=0.01)
    with precedence.taken():
        assert precedence.give_way() is False
    assert precedence.give_way() is True
