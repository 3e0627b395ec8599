"""What the tests of pages and API share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from controller.store.commands import passwords


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Least work for a password, as nearly every test logs in; those of attacks on the login have the real one."""
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    yield
    # Or a login without a user would be quick in later tests, too.
    passwords._nobody.cache_clear()
