"""The package as it is installed: the wheel alone, without extras, in an environment of its own."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN_UV = ROOT / ".cache/uv/bin/uv"
COMMAND_SECONDS = 120.0
USE = """
from headrace import cesql, cloudevents, filters
attributes = {"specversion": "1.0", "id": "1", "source": "/", "type": "t"}
assert cesql.evaluate("type = 't'", attributes).value is True
assert filters.compile([{"exact": {"type": "t"}}]).matches(attributes)
message = cloudevents.write_http(cloudevents.Event(attributes))
assert cloudevents.read_http(*message).attributes == attributes
print("used")
"""


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return subprocess.run(
        [str(each) for each in command],
        cwd="/",
        env=environ,
        capture_output=True,
        check=False,
        text=True,
        timeout=COMMAND_SECONDS,
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and nothing else; no package index is used."""
    uv = shutil.which("uv") or str(OWN_UV)
    if not Path(uv).exists():
        pytest.skip("needs uv, on PATH or from `make`")
    folder = tmp_path_factory.mktemp("wheel")
    for command in (
        (uv, "build", "--offline", "--wheel", "--out-dir", folder, ROOT),
        (uv, "venv", "--offline", "--no-project", folder / "venv"),
    ):
        done = _run(command)
        assert done.returncode == 0, done.stderr
    [wheel] = folder.glob("*.whl")
    python = folder / "venv/bin/python"
    done = _run((uv, "pip", "install", "--offline", "--no-deps", "--python", python, wheel))
    assert done.returncode == 0, done.stderr
    return folder / "venv"


def test_the_library_works_without_extras(environment: Path) -> None:
    """All three public modules, and the types' marker."""
    done = _run((environment / "bin/python", "-I", "-c", USE))
    assert (0, "used\n") == (done.returncode, done.stdout), done.stderr
    assert [1] == [len(list(environment.rglob("headrace/py.typed")))]


def test_the_command_names_the_extra_it_needs(environment: Path) -> None:
    """On standard error, without a traceback."""
    done = _run((environment / "bin/headrace", "controller"))
    assert 2 == done.returncode
    assert done.stderr.endswith(
        'pip install "headrace[controller]", or use the image headrace/controller\n'
    )
    assert 1 == done.stderr.count("\n")
