"""A console for commands that draw: rich's, with plain text made safe for a terminal."""

from typing import Any

from rich.console import Console

from headrace_cli.terminal import escape_controls


class EscapingConsole(Console):
    """A console whose plain text is neutral; what is rendered otherwise must be so already."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's."""
        super().print(
            *(escape_controls(each) if isinstance(each, str) else each for each in objects),
            **options,
        )
