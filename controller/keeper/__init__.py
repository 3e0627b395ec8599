"""Keepers: the controller's background work, taken from a queue in PostgreSQL by as many processes as are started."""
