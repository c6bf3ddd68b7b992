"""Imported first by a process that shall stay small.

structlog imports rich where it is installed, to draw tracebacks that no service draws: 4
MiB. A module that is None cannot be imported (a rule of the import system), and structlog does
without.
"""

import sys

sys.modules["rich"] = None  # type: ignore[assignment]
