"""The command `streamswarm`."""
