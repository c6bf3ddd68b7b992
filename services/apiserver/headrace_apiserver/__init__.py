"""A Kubernetes API server without a cluster. It is generic: it serves the kinds that definitions
describe, and knows none whose objects mean something outside of it.

The path of a request: `router` finds the kind and the handler, `authentication` the user,
`requests` decode the body and the options, `handlers` implement the verbs, `registry` makes the
object that is stored (`patching`, `admission`), the store keeps it, and `responses` format it as an
object, a Table or its metadata.
"""
