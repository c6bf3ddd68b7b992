"""The kinds that are served: definitions, the catalog of them, their versions, and what clients are
told about them.
"""
