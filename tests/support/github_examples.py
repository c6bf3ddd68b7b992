"""The example payloads of GitHub's webhooks: the npm package `@octokit/webhooks-examples`, which is
fetched once into `.cache` of the checkout.
"""

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

PACKAGE = "@octokit/webhooks-examples"
VERSION = "7.6.1"
CACHE = Path(__file__).parents[2] / ".cache" / f"octokit-webhooks-examples-{VERSION}"
FETCH_SECONDS = 120.0


def examples() -> Mapping[str, Sequence[dict[str, Any]]]:
    """The payloads by the name of their event. Skips the test without npm."""
    path = CACHE / "package" / "api.github.com" / "index.json"
    if not path.is_file():
        _fetch()
    found = json.loads(path.read_text())
    return {each["name"]: each["examples"] for each in found}


def _fetch() -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"not proven here: {PACKAGE} is fetched with npm, which is missing")
    CACHE.parent.mkdir(exist_ok=True)
    # Several workers may do this at once: the directory appears complete, or not at all.
    with tempfile.TemporaryDirectory(dir=CACHE.parent, prefix="octokit-") as directory:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", directory]
        subprocess.run(
            command, cwd=directory, check=True, capture_output=True, timeout=FETCH_SECONDS
        )
        [archive] = Path(directory).glob("*.tgz")
        unpacked = Path(directory) / "unpacked"
        with tarfile.open(archive) as opened:
            opened.extractall(unpacked, filter="data")
        try:
            unpacked.rename(CACHE)
        except OSError:
            if not CACHE.is_dir():
                raise
