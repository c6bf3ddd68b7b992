"""JSON Schema, with jsonschema-rs: the only package that imports it."""
