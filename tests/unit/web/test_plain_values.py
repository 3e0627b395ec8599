"""Cursors, checks of plain values, plain JSON, passwords: what needs no database."""

from __future__ import annotations

import datetime as dt
import json
import uuid

import pytest
from hypothesis import given, strategies

from controller.checking import Checker
from controller.plain import plain
from controller.store.commands import passwords
from controller.store.queries.paging import decode_cursor, encode_cursor
from controller.store.queries.users import allows, lesser
from streamswarm.contract import InvalidInputError

BERLIN = dt.timezone(dt.timedelta(hours=1))


@given(
    strategies.text(strategies.characters(exclude_characters="\0", codec="utf-8")),
    strategies.integers(-(2**62), 2**62),
)
def test_a_cursor_brings_back_what_went_in(name: str, key: int) -> None:
    """Any name and any id, in letters that need no quoting in a query."""
    cursor = encode_cursor(name, key)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert decode_cursor(cursor, str, int) == (name, key)


@given(strategies.text(max_size=60))
def test_a_cursor_of_others_is_refused(text: str) -> None:
    """Whatever it is, the answer names the field `cursor`."""
    try:
        decode_cursor(text, str, int)
    except InvalidInputError as error:
        assert [problem.path for problem in error.problems] == ["cursor"]


def test_a_cursor_of_another_list_is_refused() -> None:
    """Its keys have other types; a truth value is no number."""
    for cursor in (
        encode_cursor(1),
        encode_cursor(1, "a"),
        encode_cursor("a", True),
        encode_cursor("a", 2**63),
    ):
        with pytest.raises(InvalidInputError):
            decode_cursor(cursor, str, int)


def problems_of(checker: Checker) -> dict[str, str]:
    """Return the faults by path."""
    return {problem.path: problem.message for problem in checker.problems}


def test_text_is_trimmed_and_control_characters_are_refused() -> None:
    """One line unless lines are allowed; accents and symbols are text like any other."""
    checker = Checker(
        {"a": "  Köln, 東京 ", "b": "x\ny", "c": "x\ny", "d": "x\x1b[31m", "e": 7, "f": "x\u202ey"},
        tuple("abcdef"),
    )
    assert checker.text("a", longest=20) == "Köln, 東京"
    assert checker.text("b", longest=20, lines=True) == "x\ny"
    for name in "cdef":
        checker.text(name, longest=20)
    assert set(problems_of(checker)) == {"c", "d", "e", "f"}


def test_an_instant_must_carry_its_zone() -> None:
    """It comes out in UTC."""
    checker = Checker(
        {"a": "2030-01-01T01:00:00+01:00", "b": "2030-01-01T00:00:00", "c": "1001-01-01T00:00:00Z"},
        tuple("abcd"),
    )
    assert checker.instant("a") == dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    assert checker.instant("d") is None
    for name in "bc":
        assert checker.instant(name) is None
    assert set(problems_of(checker)) == {"b", "c"}


def test_numbers_are_finite_and_truth_values_are_none() -> None:
    """Text that is a number is one, as forms send it."""
    checker = Checker(
        {"a": "2.5", "b": float("inf"), "c": True, "d": "x", "e": 11, "f": 10**400}, tuple("abcdef")
    )
    assert checker.number("a", smallest=1, largest=10) == 2.5
    for name in "bcdef":
        assert checker.number(name, smallest=1, largest=10) is None
    assert set(problems_of(checker)) == set("bcdef")


def test_faults_are_collected_and_raised_together() -> None:
    """Unknown fields come with the names of those there are, made safe to show."""
    checker = Checker({"\x1bbad": 1, "tags": ["a", "b c", 3]}, ("tags",))
    checker.words("tags")
    with pytest.raises(InvalidInputError) as caught:
        checker.done()
    assert [problem.path for problem in caught.value.problems] == ["\\x1bbad", "tags[1]", "tags[2]"]


def test_records_become_json_whatever_is_in_them() -> None:
    """Instants in UTC, ids as text, and null for what JSON cannot say."""
    value = {
        "at": dt.datetime(2030, 1, 1, 1, tzinfo=BERLIN),
        "id": uuid.UUID(int=1),
        "n": float("nan"),
        "t": (1, 2.5),
    }
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "at": "2030-01-01T00:00:00Z", "id": "00000000-0000-0000-0000-000000000001", "n": None, "t": [1, 2.5],
    }  # fmt: skip


def test_roles_are_ordered() -> None:
    """Each may do what those before it may."""
    assert allows("admin", "viewer")
    assert not allows("viewer", "operator")
    assert lesser("admin", "operator") == lesser("operator", "admin") == "operator"


def test_a_password_is_kept_as_argon2id_and_found_again() -> None:
    """Nobody's password is right for nobody."""
    kept = passwords.hash_password("correct horse battery")
    assert kept.startswith("$argon2id$")
    assert passwords.verify(kept, "correct horse battery")
    assert not passwords.verify(kept, "correct horse")
    assert not passwords.verify(None, "correct horse battery")
    assert not passwords.verify("not a hash", "correct horse battery")
    assert not passwords.verify(kept, "x" * 1_000_000)


def test_weak_passwords_are_told_why() -> None:
    """Short, monotonous, or the user's own name; a generated one is none of these, and none is like another."""
    for password in ("short", "aaaaaaaaaaaa", "administrator1"):
        assert passwords.problem_of(password, name="administrator"), password
    made = {passwords.generate() for _ in range(50)}
    assert len(made) == 50
    assert not any(passwords.problem_of(password, name="admin") for password in made)
