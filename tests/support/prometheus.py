"""A Prometheus server for tests: a process of its own on loopback, with its data in a directory of
the test. It scrapes and evaluates rules every second.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3
import yaml

from tests.support.kafka import free_port
from tests.support.processes import Processes
from tests.support.wait_until import wait_until

BINARY = shutil.which("prometheus")
UNPROVEN = "not proven here: needs prometheus on PATH (Debian package prometheus)"
START_SECONDS = 20.0


class PrometheusError(AssertionError):
    """The server refused a request."""


class Prometheus:
    """A server that scrapes `targets`, addresses by name of the process, and gives `labels` to
    them.
    """

    def __init__(
        self,
        processes: Processes,
        directory: Path,
        *,
        targets: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
        rules: Sequence[Path] = (),
        features: Sequence[str] = (),
    ) -> None:
        """Start it with these features, and wait until it is ready."""
        assert BINARY is not None, UNPROVEN
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "prometheus.yml"
        config.write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(each) for each in rules],
                    "scrape_configs": [
                        {
                            "job_name": "headrace",
                            "honor_labels": True,
                            "static_configs": [
                                {"targets": sorted(targets.values()), "labels": dict(labels or {})}
                            ],
                        }
                    ],
                }
            ),
            encoding="utf-8",
        )
        port = free_port()
        self._http = urllib3.PoolManager(timeout=10.0, retries=False)
        self.url = f"http://127.0.0.1:{port}"
        self._process = processes.start(
            "prometheus",
            [
                BINARY,
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                *(f"--enable-feature={each}" for each in features),
            ],
        )
        wait_until(self._is_ready, START_SECONDS, f"Prometheus is ready: {self._process.tail()}")

    def _is_ready(self) -> bool:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return self._http.request("GET", f"{self.url}/-/ready").status == 200
        return False

    def get(self, path: str, **fields: str) -> Any:
        """Return the data of an answer of the HTTP API. Raises `PrometheusError`."""
        response = self._http.request("GET", f"{self.url}/api/v1/{path}", fields=fields)
        answer = json.loads(response.data)
        if answer["status"] != "success":
            raise PrometheusError(f"{fields}: {answer['errorType']}: {answer['error']}")
        return answer["data"]

    def query(self, expression: str) -> list[float]:
        """Return the values of an expression now. Raises `PrometheusError`."""
        data = self.get("query", query=expression)
        if data["resultType"] == "scalar":
            return [float(data["result"][1])]
        return [float(each["value"][1]) for each in data["result"]]

    def exemplars(self, expression: str) -> list[dict[str, Any]]:
        """Return the exemplars of what an expression selects, of the last hour; the server needs
        the feature `exemplar-storage`.
        """
        now = time.time()
        found = self.get("query_exemplars", query=expression, start=f"{now - 3600}", end=f"{now}")
        return [exemplar for each in found for exemplar in each["exemplars"]]

    def series(self, selector: str) -> list[dict[str, str]]:
        """Return the labels of the time series that a selector matches."""
        found: list[dict[str, str]] = self.get("series", **{"match[]": selector})
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Return the state of all rules."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]
