"""Measured upgrades: which hosts, in which order, and whether what the fleet measures got worse by the new release."""
