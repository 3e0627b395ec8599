"""What a worker answers to other workers; off unless its host's policy allows it."""
