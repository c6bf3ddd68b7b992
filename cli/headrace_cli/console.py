"""A rich console for commands that format output. It escapes control characters in plain text."""

from typing import Any

from rich.console import Console

from headrace_cli.terminal import escape_controls


class EscapingConsole(Console):
    """A console that escapes plain text. Renderables must already be safe."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as the rich console does."""
        super().print(
            *(escape_controls(each) if isinstance(each, str) else each for each in objects),
            **options,
        )
