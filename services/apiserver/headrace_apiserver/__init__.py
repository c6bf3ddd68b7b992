"""The Kubernetes API that the controller serves by itself where there is no cluster: generic, it
serves what definitions say.

A request passes through here in one line: `server` routes it, `access` says who asks, `reading`
makes an object of its body, the doors know the verbs, `writes` takes an object from what was sent
to what is stored (`patch`, `apply`, `admission`), the store keeps it, and `answers` shows it as an
object, a Table or metadata.
"""
