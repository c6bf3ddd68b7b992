"""Commands, run in this process."""
