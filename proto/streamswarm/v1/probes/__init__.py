"""Generated messages, one module per probe kind."""
