"""The compatibility cases of CESQL."""
