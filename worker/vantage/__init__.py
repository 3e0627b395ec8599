"""This host as a vantage point: its gateways, name servers and load, so that no destination is blamed for it."""
