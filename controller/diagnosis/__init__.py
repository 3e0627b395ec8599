"""Diagnosis: what is normal for each job, what is not, and where the fault lies.

`learning` finds what is normal as results arrive; only the keeper uses it, for its libraries are heavy. `verdicts`
turns what was found into a verdict; it is pure and light, so that pages can ask it.
"""
