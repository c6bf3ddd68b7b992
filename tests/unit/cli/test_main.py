"""How the command line is assembled."""

import pytest
from typer.main import get_command

from headrace_cli.main import COMMANDS, application


@pytest.mark.parametrize(("module", "names"), list(COMMANDS.items()))
def test_every_module_registers_what_the_table_says(module: str, names: tuple[str, ...]) -> None:
    """The table decides which module is imported, so a command that it lacks could not be
    called.
    """
    for name in names:
        # Typer turns a single command into the whole application unless there is a callback, as
        # there is here.
        assert set(names) == set(get_command(application([name])).commands)  # type: ignore[attr-defined]


def test_without_a_known_command_all_are_there() -> None:
    """The help page and suggestions need them."""
    everything = {name for names in COMMANDS.values() for name in names}
    assert everything == set(get_command(application(["--help"])).commands)  # type: ignore[attr-defined]
    assert everything == set(get_command(application(["no-such-command"])).commands)  # type: ignore[attr-defined]


def test_the_list_of_commands_has_no_line_breaks_of_docstrings() -> None:
    """They would end lines of the help page in the middle of a sentence."""
    listed = get_command(application(["--help"])).commands.values()  # type: ignore[attr-defined]
    assert [each.name for each in listed if "\n" in each.short_help] == []
    assert all(each.short_help for each in listed)
