"""What was measured, turned into metrics and judged: pure, values in and values out, no sockets and no clocks."""
