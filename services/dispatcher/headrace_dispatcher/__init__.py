"""The dispatcher service: its composition root and what is its own policy."""
