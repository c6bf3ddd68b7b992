"""The command when libraries are missing: it prints one sentence that names the extra and the
image, and exits with code 2. What needs no more than a service has works in the image of each
service.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from headrace_cli.entry_point import EXTRAS, IMAGES, LIBRARIES
from headrace_cli.main import COMMANDS

ROOT = Path(__file__).parents[3]
RUN = f"""
import sys
sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT / "cli")!r}]
from headrace_cli.entry_point import main
main()
"""


IN_IMAGE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {libraries!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from headrace_cli.entry_point import main
main()
"""
SERVICES = ("ingress", "dispatcher", "controller", "sources")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an interpreter without site packages."""
    return _python("-S", "-I", "-c", RUN, *arguments)


def _run_in_image(service: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with the libraries of a service only, as in its image. typer brings rich."""
    libraries = set(LIBRARIES["all"]) - set(LIBRARIES[service]) - {"rich"}
    return _python("-c", IN_IMAGE.format(libraries=libraries), *arguments)


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, check=False, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "headrace needs the library typer, which is not installed: "),
        (["filter", "--help"], "headrace filter needs the library typer, "),
        (["ingress"], "headrace ingress needs the library confluent_kafka, "),
        (["up"], "headrace up needs the library confluent_kafka, "),
    ],
)
def test_without_libraries_one_sentence_names_the_extra(
    arguments: list[str], sentence: str
) -> None:
    """There is no traceback, and nothing on standard output."""
    done = _run(*arguments)
    extra = EXTRAS.get(arguments[0], "cli") if arguments else "cli"
    image = f", or use the image headrace/{extra}" if extra in IMAGES else ""
    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith(sentence), done.stderr
    assert done.stderr.endswith(f': pip install "headrace[{extra}]"{image}\n')
    assert 1 == done.stderr.count("\n")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("command", ["get", "dead-letters", "types"])
def test_in_the_image_of_a_service_a_command_names_the_image_that_has_it(
    service: str, command: str
) -> None:
    """In one line."""
    done = _run_in_image(service, command)
    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.endswith('pip install "headrace[cli]", or use the image headrace/cli\n')
    assert 1 == done.stderr.count("\n")


@pytest.mark.parametrize("service", SERVICES)
def test_the_image_of_a_service_shows_settings_and_acls(service: str) -> None:
    """Of each service, because the settings of another may be compared there."""
    for arguments in (*(("config", "show", each) for each in SERVICES), ("acls", service)):
        done = _run_in_image(service, *arguments)
        assert (0, "") == (done.returncode, done.stderr), arguments
        assert done.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_the_image_of_a_service_lists_the_commands(service: str) -> None:
    """Also those that it does not have; a word that is no command is reported as such."""
    done = _run_in_image(service, "--help")
    assert (0, "") == (done.returncode, done.stderr)
    for name in ("health", "config", "dead-letters", "get"):
        assert name in done.stdout
    assert "Needs urllib3: use the extra or the image cli." in done.stdout
    assert "No such command 'gte'" in _run_in_image(service, "gte").stderr


def test_an_image_is_that_of_the_dockerfile() -> None:
    """The names in the sentence are those that can be built."""
    text = (ROOT / "services/Dockerfile").read_text(encoding="utf-8")
    for image in IMAGES:
        assert f" AS {image}\n" in text


def test_an_extra_belongs_to_a_command() -> None:
    """The named command exists."""
    assert set(EXTRAS) <= {name for names in COMMANDS.values() for name in names}


def test_an_error_of_an_own_module_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such an error is a bug and keeps its traceback."""
    monkeypatch.setattr(sys, "argv", ["headrace", "filter"])
    monkeypatch.setitem(sys.modules, "headrace_cli.main", None)
    from headrace_cli.entry_point import main

    with pytest.raises(ModuleNotFoundError, match="headrace_cli"):
        main()
