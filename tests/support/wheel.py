"""Wheels of the package, built with uv and without a package index."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

OWN_UV = Path(__file__).parents[2] / ".cache/uv/bin/uv"
COMMAND_SECONDS = 120.0


def run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run a command outside of this environment and of the checkout."""
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


def find_uv() -> str:
    """The path of uv; skips the test without it."""
    uv = shutil.which("uv") or str(OWN_UV)
    if not Path(uv).exists():
        pytest.skip("not proven here: needs uv, on PATH or from `make`")
    return uv


def build_wheel(checkout: Path, folder: Path) -> Path:
    """Build the wheel of a checkout in a folder."""
    done = run((find_uv(), "build", "--offline", "--wheel", "--out-dir", folder, checkout))
    assert done.returncode == 0, done.stderr
    [wheel] = folder.glob("*.whl")
    return wheel
