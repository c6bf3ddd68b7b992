"""Tests of the source tree itself: names built in one place, no dead code, and correct
documents.
"""
