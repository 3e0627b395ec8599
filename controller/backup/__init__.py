"""Backup and restore of what an installation cannot make again: database, certificate authority, secrets, settings."""

from controller.backup.archive import Manifest
from controller.backup.making import make
from controller.backup.restoring import restore

__all__ = ["Manifest", "make", "restore"]
