"""The state directory: the only part that knows file names and formats."""
