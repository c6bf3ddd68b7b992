"""kubectl as a black box: a temporary home and kubeconfig, one call per command, with its outputs
and exit code.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_apiserver.kubeconfig import kubeconfig

CALL_SECONDS = 60.0
"""A loaded machine takes ten times as long as an idle one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one call."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Standard output, line by line."""
        return self.out.splitlines()

    @property
    def both(self) -> str:
        """Both outputs."""
        return self.out + self.err


class Kubectl:
    """kubectl, configured for one server."""

    def __init__(
        self, server: str, home: Path, *, given: Path | None = None, name: str = "kubectl"
    ) -> None:
        """`name` is the program, which may be another one that reads a kubeconfig. `given` is a
        kubeconfig to use; without it, one for `server` is written into `home`, which also holds the
        discovery cache.
        """
        program = shutil.which(name)
        if program is None:
            pytest.skip(f"{name} is not on PATH: unproven is that it works with this API")
        self._program = program
        self._home = home
        self.server = server
        self.kubeconfig = given or home / "kubeconfig"
        if given is None:
            self.kubeconfig.write_text(yaml.safe_dump(kubeconfig(server)))

    def __call__(
        self, *arguments: str, text: str | None = None, env: Mapping[str, str] | None = None
    ) -> Outcome:
        """Run it; `text` is its standard input."""
        done = subprocess.run(
            [self._program, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
            env=self._environment(env),
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def ok(
        self, *arguments: str, text: str | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """Run it and require success; returns its standard output."""
        done = self(*arguments, text=text, env=env)
        assert 0 == done.code, f"kubectl {' '.join(arguments)}\n{done.both}"
        return done.out

    def refused(self, *arguments: str, text: str | None = None) -> str:
        """Run it and require a failure; returns its outputs."""
        done = self(*arguments, text=text)
        assert done.code, f"kubectl {' '.join(arguments)} succeeds\n{done.both}"
        return done.both

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get … -o yaml`, parsed."""
        found: dict[str, Any] = yaml.safe_load(
            self.ok("get", *arguments, "-o", "yaml", "--show-managed-fields")
        )
        return found

    @contextmanager
    def running(self, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
        """Run it during the test, for commands that watch; it is ended at the end."""
        process = subprocess.Popen(
            [self._program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(None),
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KUBE")}
        return {**kept, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self._home), **(more or {})}
