"""CA certificates without the extensions of RFC 5280, such as key usage: many clusters and
companies have them, and curl, Go and Java accept them. Python does too, until version 3.13.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


def accept_plain_authorities(context: "ssl.SSLContext") -> "ssl.SSLContext":
    """Let a context accept such certificates on each version of Python. Chains, names and dates are
    verified as before. Returns the context.
    """
    import ssl  # Here, because a process that only reads settings needs none of it.

    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
