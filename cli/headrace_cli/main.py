"""The `headrace` command: one typer application, a module per command."""

import typer

app = typer.Typer(name="headrace", no_args_is_help=True, add_completion=True, pretty_exceptions_show_locals=False)


def main() -> None:
    """Run the command line."""
    app()
