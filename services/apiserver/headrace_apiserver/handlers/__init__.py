"""The handlers of the verbs: each reads a request, calls the registry or the store, and builds the
response.
"""
