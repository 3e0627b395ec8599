"""Fixtures of the fleet's tests: real hosts from the laboratory."""

from __future__ import annotations

from lab.fixtures import lab_hosts, laboratory_possible

__all__ = ["lab_hosts", "laboratory_possible"]
