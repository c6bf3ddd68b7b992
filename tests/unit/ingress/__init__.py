"""Tests of the HTTP server and the ingress, without network and Kafka."""
