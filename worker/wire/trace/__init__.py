"""Traceroute: probes whose TTL runs out on the way, and who tells so.

One engine for each event loop serves all runs (`engine`), each run is a `course` that decides what to ask next.
"""
