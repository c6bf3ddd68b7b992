"""The package as it is installed: the wheel alone, without extras, in an environment of its own."""

from pathlib import Path

import pytest

from tests.support.wheel import build_wheel, find_uv, run

ROOT = Path(__file__).parents[2]
USE = """
from headrace import cesql, cloudevents, filters
attributes = {"specversion": "1.0", "id": "1", "source": "/", "type": "t"}
assert cesql.evaluate("type = 't'", attributes).value is True
assert filters.compile([{"exact": {"type": "t"}}]).matches(attributes)
message = cloudevents.write_http(cloudevents.Event(attributes))
assert cloudevents.read_http(*message).attributes == attributes
print("used")
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and nothing else; no package index is used."""
    uv = find_uv()
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build_wheel(ROOT, folder)
    done = run((uv, "venv", "--offline", "--no-project", folder / "venv"))
    assert done.returncode == 0, done.stderr
    python = folder / "venv/bin/python"
    done = run((uv, "pip", "install", "--offline", "--no-deps", "--python", python, wheel))
    assert done.returncode == 0, done.stderr
    return folder / "venv"


def test_the_library_works_without_extras(environment: Path) -> None:
    """All three public modules, and the types' marker."""
    done = run((environment / "bin/python", "-I", "-c", USE))
    assert (0, "used\n") == (done.returncode, done.stdout), done.stderr
    assert [1] == [len(list(environment.rglob("headrace/py.typed")))]


def test_the_command_names_the_extra_it_needs(environment: Path) -> None:
    """On standard error, without a traceback."""
    done = run((environment / "bin/headrace", "controller"))
    assert 2 == done.returncode
    assert done.stderr.endswith(
        'pip install "headrace[controller]", or use the image headrace/controller\n'
    )
    assert 1 == done.stderr.count("\n")
