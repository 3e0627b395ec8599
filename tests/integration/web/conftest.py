"""What the tests of pages and API share."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from controller.store.commands import passwords


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Least work for a password, as nearly every test logs in; those of attacks on the login have the real one."""
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
