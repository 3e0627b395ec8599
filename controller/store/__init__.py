"""What the controller keeps in PostgreSQL, and every question and change that goes there."""
