"""Learns what is normal for a job from its results, with River as they arrive and scikit-learn on suspicion.

Imported by the keeper alone, inside the task that needs it: the libraries cost time and memory.
"""
