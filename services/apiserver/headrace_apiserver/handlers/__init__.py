"""The verbs: what each does between a request and the store."""
