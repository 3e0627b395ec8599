"""Limits of ICMP messages are told from loss, by hops behind and by the pattern."""

import random

import pytest

from worker.wire.trace.limits import answers_less, fits_bucket


def bucket(times: list[float], *, interval_s: float, burst: int, level: float) -> list[tuple[float, bool]]:
    """Return what a router with a limit answers, in the way of Linux' inet_peer_xrlim_allow."""
    found = []
    before = times[0]
    for at in times:
        level = min(burst, level + (at - before) / interval_s)
        before = at
        found.append((at, level >= 1))
        if level >= 1:
            level -= 1
    return found


@pytest.mark.parametrize("level", [0.0, 1.0, 3.3, 6.0])
@pytest.mark.parametrize("pause_s", [0.05, 0.1, 0.3])
def test_linux_default_limit_is_found(level: float, pause_s: float) -> None:
    """Six messages at once, one a second after that, whatever was asked before; twelve seconds show it."""
    times = [number * pause_s for number in range(round(12 / pause_s))]
    assert fits_bucket(bucket(times, interval_s=1.0, burst=6, level=level))


def test_another_pace_is_found_too() -> None:
    """One message in 0.7 s, as no list has it."""
    times = [number * 0.1 for number in range(100)]
    assert fits_bucket(bucket(times, interval_s=0.7, burst=1, level=1.0))


def test_random_loss_is_no_limit() -> None:
    """One in a thousand patterns of chance may pass for a limit at most; here none of 600."""
    dice = random.Random(11)
    times = [number * 0.1 for number in range(40)]
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.97):
        for _ in range(100):
            assert not fits_bucket([(at, dice.random() > share) for at in times])


def test_an_outage_is_no_limit() -> None:
    """Answers, then none for good: too simple a pattern to prove a pace."""
    assert not fits_bucket([(number * 0.1, number < 4) for number in range(20)])


def test_few_probes_prove_nothing() -> None:
    """Three rounds, one answered."""
    assert not fits_bucket([(0.0, True), (1.0, False), (2.0, False)])


def test_hops_that_all_answer_prove_nothing() -> None:
    """Neither do those that never do."""
    assert not fits_bucket([(number * 0.1, True) for number in range(50)])
    assert not fits_bucket([(number * 0.1, False) for number in range(50)])


def test_silence_that_later_hops_do_not_share_is_a_limit() -> None:
    """8 of 20 answered here, all of them behind."""
    assert answers_less(12, 20, [(0, 20)])


def test_silence_that_later_hops_share_is_loss() -> None:
    """About the same share is lost at each later hop."""
    assert not answers_less(4, 20, [(3, 20), (5, 20)])


def test_one_silent_probe_of_three_is_chance() -> None:
    """It may have been lost."""
    assert not answers_less(1, 3, [(0, 3), (0, 3)])


def test_the_last_hop_has_none_behind() -> None:
    """Nothing to compare with."""
    assert not answers_less(12, 20, [])


def test_true_loss_is_rarely_taken_for_a_limit() -> None:
    """10 % loss on the way to all of five hops, 30 probes each, a thousand times."""
    dice = random.Random(5)
    wrong = 0
    for _ in range(1000):
        shares = [(sum(dice.random() < 0.1 for _ in range(30)), 30) for _ in range(5)]
        wrong += answers_less(*shares[0], shares[1:])
    assert wrong <= 20
