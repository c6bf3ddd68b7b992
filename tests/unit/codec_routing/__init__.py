"""Tests of the routing records' JSON form."""
