"""What the control plane knows of resources: kinds, their fields, defaults and validation,
conditions, names and ownership.

Pure, like `headrace.domain`: no I/O, clock or randomness. The data plane imports nothing from here.
It reads routing records, which the controller writes; an import contract checks this.
"""
