"""Planning, as pure functions: tests by workers by destinations in, the jobs that should be out.

Nothing here reads a database or a clock; the keeper hands values in and writes down what comes out.
"""
