"""Tests of the codecs, one file per module."""
