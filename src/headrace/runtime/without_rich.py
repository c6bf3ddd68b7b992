"""Import this first in a process that must use little memory.

structlog imports rich if it is installed, to format tracebacks that no service formats. This uses 4
MiB. A module set to None cannot be imported (a rule of the import system), and structlog then works
without it.
"""

import sys

sys.modules["rich"] = None  # type: ignore[assignment]
