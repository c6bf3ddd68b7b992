"""The controller service: its composition root and what is its own policy."""
