"""The control topics: the routing table and the instances."""
