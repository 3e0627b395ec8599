"""Suites: tests and assertions in YAML. They need the base installation only."""
