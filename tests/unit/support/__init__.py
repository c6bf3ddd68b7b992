"""Tests of what the proofs are made with: a judge that was never seen red is not trusted."""
