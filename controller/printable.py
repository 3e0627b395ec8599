"""Texts of others as a terminal may have them: what a worker or a host tells must not steer it."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return text with another sign for each control character but the end of a line."""
    return "".join(sign if sign == "\n" or sign.isprintable() else "�" for sign in text)
