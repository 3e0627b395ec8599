"""What becomes of results and roll-ups in time: days rewritten in the order of their key, and what goes."""
