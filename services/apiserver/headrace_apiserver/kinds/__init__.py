"""The kinds that are served: definitions, the catalog, discovery and OpenAPI."""
