"""From evidence to a verdict: pure functions over plain values, without any heavy library."""
