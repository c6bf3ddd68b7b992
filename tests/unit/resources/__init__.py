"""Tests of the rules of resources: names, manifests, conditions, admission."""
