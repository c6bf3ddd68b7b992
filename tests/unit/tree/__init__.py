"""Tests of the source tree itself: names in one place, nothing dead, and documents that say what is
so.
"""
