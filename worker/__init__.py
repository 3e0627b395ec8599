"""The worker: a daemon that measures on its host, keeps what it measured and delivers it."""
