"""Tests of the test support: a checker that never failed is not trusted."""
