"""StreamSwarm on one machine: what `streamswarm up` sets up, starts, watches and stops."""
