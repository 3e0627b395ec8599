"""Generated messages of version 1 of the contract."""
