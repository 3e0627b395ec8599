"""What reads entities and results: a session or connection in, frozen records out."""
