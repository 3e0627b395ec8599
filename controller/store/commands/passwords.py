"""Passwords: argon2id, with the same work whether or not there is such a user."""

from __future__ import annotations

import secrets
import threading
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST = 10
LONGEST = 256

_hasher = PasswordHasher()
# One computation takes 64 MiB: many logins at once must not take the machine's memory.
_at_once = threading.BoundedSemaphore(2)


def hash_password(password: str) -> str:
    """Return the PHC string to keep."""
    with _at_once:
        return _hasher.hash(password)


def verify(password_hash: str | None, password: str) -> bool:
    """Whether the password is right; None (no such user) costs the same time and is never right."""
    if len(password) > LONGEST:
        return False
    with _at_once:
        try:
            _hasher.verify(password_hash or _nobody(), password)
        except (VerificationError, InvalidHashError):
            return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Whether it was made with weaker parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)


def problem_of(password: str, *, name: str) -> str | None:
    """Return what is wrong with a new password, or None."""
    if len(password) < SHORTEST:
        return f"must have at least {SHORTEST} characters"
    if len(password) > LONGEST:
        return f"must have at most {LONGEST} characters"
    if len(set(password)) < 4:
        return "must have at least 4 different characters"
    if name and name.lower() in password.lower() and len(password) - len(name) < 6:
        return "must be more than the user's name with a few characters"
    return None


def generate() -> str:
    """Return a password of 96 bits in groups that can be read and typed."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(alphabet) for _ in range(5)) for _ in range(4))


@cache
def _nobody() -> str:
    return _hasher.hash(secrets.token_urlsafe(16))
