"""A complete Headrace for a test: Kafka, the three services as processes of their own, and sinks,
all of them real.

The test uses only what a user has: manifests through the controller's API, events through the
ingress, and Kafka from outside for offsets and records.
"""

import contextlib
import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import urllib3

from headrace.adapters.kafka.local.kafka_jars import missing_requirement
from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from headrace.resources.resource import guess_plural
from tests.support.ledger import Numbered, headers_of
from tests.support.log_view import LogView
from tests.support.manifests import CHANNEL_VERSIONS, Manifest
from tests.support.processes import LOOPBACK_SINKS, LOOPBACK_SUBSCRIBERS, Processes, ServiceProcess
from tests.support.sink_process import SinkProcess
from tests.support.wait_until import wait_until

READY_SECONDS = 60.0
"""From an applied manifest, or a started process, to Ready on a machine with other work; the target
is measured by other tests.
"""
CALL_SECONDS = 10.0
WORKERS_MAX = 16


class Refused(AssertionError):
    """The controller's API refused a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class HeadraceUnderTest:
    """One installation. `start` starts it, `close` ends all its processes."""

    def __init__(
        self,
        bootstrap_servers: str,
        directory: Path,
        *,
        seed: int = 1,
        env: Mapping[str, str] | None = None,
        own_env: Mapping[str, Mapping[str, str]] | None = None,
        static_members: bool = True,
        ca: Path | None = None,
    ) -> None:
        """`env` is for every service, `own_env` by kind of service; `static_members` makes
        dispatchers static members.

        `ca` has signed the certificate that `own_env` gives the ingress, which then serves HTTPS.
        """
        self.seed = seed
        self.channel_kind = "KafkaChannel"
        """The kind that backs a Channel by default; see `use_channels`."""
        self._in_memory_port: int | None = None
        self._own_env = own_env or {}
        self._static_members = static_members
        self._scheme = "https" if ca else "http"
        self.directory = directory
        self.log = LogView(bootstrap_servers)
        self.processes = Processes(directory)
        self.ingress_port, self.api_port = lasting_port(), lasting_port()
        self._env = {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "HEADRACE_TEST": "1",
            "HEADRACE_LOG_FORMAT": "json",
            **(env or {}),
        }
        self._management: dict[str, int] = {}
        timeout = urllib3.Timeout(CALL_SECONDS)
        self._http = urllib3.PoolManager(
            timeout=timeout, retries=False, maxsize=8, ca_certs=str(ca) if ca else None
        )
        self.services: dict[str, ServiceProcess] = {}
        self.kubeconfig = directory / "kubeconfig"
        self._namespaces: set[str] = {"default"}
        self._applied: dict[str, Manifest] = {}
        """What was created here, by path."""
        self._sinks: SinkProcess | None = None
        self._first_api_port = self.api_port

    @property
    def sinks(self) -> SinkProcess:
        """The subscribers."""
        if self._sinks is None:
            raise RuntimeError("the installation was not started")
        return self._sinks

    def start(self, *, dispatchers: int = 1) -> "HeadraceUnderTest":
        """Start everything and wait until it is ready."""
        self._sinks = SinkProcess(self.processes, seed=self.seed, directory=self.directory)
        self.run("controller")
        self.run("ingress")
        for number in range(dispatchers):
            self.run(f"dispatcher-{number}")
        for name in self.services:
            self.wait_until_ready(name)
        return self

    def close(self) -> None:
        """End all processes."""
        self._http.clear()
        for process in self.services.values():
            process.terminate()
        for process in self.services.values():
            with contextlib.suppress(AssertionError):
                process.wait(8.0)
        if self._sinks:  # last: services that drain still deliver
            self._sinks.close()
        self.processes.close()

    def run(self, name: str, *, env: Mapping[str, str] | None = None) -> ServiceProcess:
        """Start the service `name` (`ingress`, `controller`, `dispatcher-<n>`), or restart it after
        its end; `env` is for this run only.
        """
        process = self.services.get(name)
        if process is not None:
            return process.start(env={"HEADRACE_CRASH_AT": "", **(env or {})})
        kind = name.partition("-")[0]
        own = {
            "ingress": ["--port", str(self.ingress_port)],
            "controller": self.options_of_controller(),
            "dispatcher": ["--instance", name] if self._static_members else [],
        }[kind]
        return self.run_with(name, own, env=env)

    def run_with(
        self,
        name: str,
        own: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        command: str = "",
    ) -> ServiceProcess:
        """Start the service `name` for the first time, with options of its own; `command` is its
        command if it is not the first word of the name.
        """
        kind = command or name.partition("-")[0]
        port = self._management[name] = lasting_port()
        subscribers = LOOPBACK_SUBSCRIBERS if kind in ("dispatcher", "in-memory") else {}
        sinks = LOOPBACK_SINKS if kind == "sources" else {}
        lasting = {**self._env, **subscribers, **sinks, **self._own_env.get(kind, {})}
        process = self.processes.headrace(
            kind, *own, "--management-port", str(port), name=name, env={**lasting, **(env or {})}
        )
        process.env = lasting
        self.services[name] = process
        return process

    def run_sources(self, count: int = 1) -> None:
        """Start `count` processes of the sources service, and wait until they are ready."""
        for number in range(count):
            name = f"sources-{number}"
            self.run_with(name, ["--port", "0", "--instance", name, *self.options_of_sources()])
        for number in range(count):
            self.wait_until_ready(f"sources-{number}")

    def options_of_sources(self) -> list[str]:
        """Options of the sources service's command: where it reads Secrets."""
        return ["--kubeconfig", str(self.kubeconfig)]

    def run_second_controller(self) -> None:
        """Start a second controller beside the first; resources are accessed through it from now
        on.
        """
        self._first_api_port, self.api_port = self.api_port, lasting_port()
        self.run_with("controller-b", self.options_of_controller())
        self.wait_until_ready("controller-b")

    def end_second_controller(self) -> None:
        """Start the first controller again, and end the second."""
        self.api_port = self._first_api_port
        self.run("controller")
        self.services.pop("controller-b").stop()
        self.wait_until_ready("controller")

    def options_of_controller(self) -> list[str]:
        """Options of a controller's command."""
        return [
            "--port",
            str(self.api_port),
            "--ingress-url",
            self.ingress_url,
            "--kubeconfig-out",
            str(self.kubeconfig),
        ]

    def wait_until_ready(self, name: str, *, seconds: float = READY_SECONDS) -> None:
        """Wait for the service's own readiness."""

        def ready() -> bool:
            process = self.services[name]
            assert process.running, f"{name} ended with {process.returncode}:\n{process.tail()}"
            return self.is_ready(name)

        wait_until(ready, seconds, f"{name} is ready", every=0.05)

    def is_ready(self, name: str) -> bool:
        """Whether `/readyz` of the service returns 200."""
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return (
                self._http.request(
                    "GET", f"http://127.0.0.1:{self._management[name]}/readyz", timeout=2.0
                ).status
                == 200
            )
        return False

    def management_url(self, name: str) -> str:
        """The service's management address."""
        return f"http://127.0.0.1:{self._management[name]}"

    def settings(self, name: str) -> dict[str, Any]:
        """The service's `/configz`: values by environment variable."""
        answer = self._http.request("GET", f"{self.management_url(name)}/configz")
        found: dict[str, Any] = json.loads(answer.data)
        return found

    def metrics(self, name: str, *, accept: str = "*/*") -> str:
        """The service's `/metrics`, in a format that the scraper accepts."""
        return self._http.request(
            "GET",
            f"http://127.0.0.1:{self._management[name]}/metrics",
            headers={"accept": accept},
        ).data.decode()

    @property
    def ingress_url(self) -> str:
        """The ingress's address."""
        return f"{self._scheme}://127.0.0.1:{self.ingress_port}"

    def call(self, method: str, path: str, body: Manifest | None = None) -> Manifest:
        """Call the controller's API. Raises `Refused` for any status of 400 and more."""
        answer = self.request_api(
            method, path, json.dumps(body).encode() if body is not None else None
        )
        values: Manifest = json.loads(answer.data) if answer.data else {}
        if answer.status >= 400:
            raise Refused(answer.status, str(values.get("message", values)))
        return values

    def request_api(
        self, method: str, path: str, content: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        """Send one request to the API that stores the resources."""
        headers = {"Content-Type": "application/json"}
        return self._http.request(
            method, f"http://127.0.0.1:{self.api_port}{path}", body=content, headers=headers
        )

    def call_patiently(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        *,
        seconds: float = READY_SECONDS,
    ) -> Manifest:
        """As `call`, repeated for up to `seconds` while the controller answers 503 or not at all:
        it may have just started, or be a standby.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.call(method, path, body)
            except (Refused, urllib3.exceptions.HTTPError) as error:
                if time.monotonic() > deadline or (
                    isinstance(error, Refused) and error.status != 503
                ):
                    raise
                time.sleep(0.2)

    def apply(self, *manifests: Manifest) -> None:
        """Create or replace resources, in order."""
        for manifest in manifests:
            path = path_of(manifest)
            try:
                self.update(manifest, partial(_replaced, manifest))
            except Refused as refused:
                if refused.status != 404:
                    raise
                self._make_namespace(manifest["metadata"]["namespace"])
                self.call_patiently("POST", path.rpartition("/")[0], manifest)
                self._applied[path] = manifest

    def update(self, manifest: Manifest, change: Callable[[Manifest], Manifest]) -> None:
        """Write a resource as `change` makes it of the present one; again if another client, such
        as the controller, has written it meanwhile.
        """
        path, written = path_of(manifest), False
        while not written:
            changed = change(self.call_patiently("GET", path))
            try:
                self.call_patiently("PUT", path, changed)
                written = True
            except Refused as refused:
                if refused.status != 409:
                    raise

    def ensure_namespace(self, name: str) -> None:
        """Create a namespace unless it exists."""
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        try:
            self.call_patiently("POST", "/api/v1/namespaces", manifest)
        except Refused as refused:
            if refused.status != 409:
                raise

    def _make_namespace(self, name: str) -> None:
        """Create the namespace of a resource if needed."""
        if name not in self._namespaces:
            with contextlib.suppress(Refused):  # it exists already
                self.call_patiently("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
            self._namespaces.add(name)

    def get(self, manifest: Manifest) -> Manifest | None:
        """The resource as it is now, None if it does not exist."""
        try:
            return self.call("GET", path_of(manifest))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def is_settled(self, manifest: Manifest) -> bool:
        """Whether the resource is Ready, at its latest generation."""
        found = self.get(manifest) or {}
        status = found.get("status", {})
        observed = status.get("observedGeneration") == found.get("metadata", {}).get("generation")
        return observed and condition(found, "Ready").get("status") == "True"

    def wait_ready(self, *manifests: Manifest, seconds: float = READY_SECONDS) -> None:
        """Wait until all of these are Ready at their latest generation."""
        for manifest in manifests:
            if manifest["kind"] != "ConfigMap":
                what = f"{manifest['kind']} {manifest['metadata']['name']} is Ready"
                try:
                    wait_until(
                        lambda manifest=manifest: self.is_settled(manifest),  # type: ignore[misc]
                        seconds,
                        what,
                        every=0.05,
                    )
                except AssertionError as error:
                    raise AssertionError(
                        f"{error}; its status: {(self.get(manifest) or {}).get('status')}"
                    ) from None

    def establish(self, *manifests: Manifest) -> None:
        """Apply and wait until Ready."""
        self.apply(*manifests)
        self.wait_ready(*manifests)

    def delete_applied(self) -> None:
        """Delete what was applied here, the newest first, and wait until it is deleted."""
        self.delete(*reversed(self._applied.values()))

    def revive(self) -> None:
        """Start each process that has ended, and wait until it is ready."""
        for name, process in self.services.items():
            if not process.running:
                process.start(env={})
                self.wait_until_ready(name)

    def delete(self, *manifests: Manifest, seconds: float = READY_SECONDS) -> None:
        """Delete resources and wait until they are deleted."""
        for manifest in manifests:
            try:
                self.call_patiently("DELETE", path_of(manifest))
            except Refused as refused:
                if refused.status != 404:
                    raise
        for manifest in manifests:
            self._applied.pop(path_of(manifest), None)
            wait_until(
                lambda manifest=manifest: self.get(manifest) is None,  # type: ignore[misc]
                seconds,
                f"{manifest['metadata']['name']} is deleted",
                every=0.05,
            )

    def send(self, event: Numbered, path: str) -> int:
        """Post one event to a path of the ingress; the status."""
        lines = headers_of(event).decode().splitlines()
        return self.post(
            path,
            {name: value for name, _, value in (line.partition(": ") for line in lines)},
            event.data,
        )

    def post(
        self, path: str, headers: Mapping[str, str], body: bytes = b"", *, method: str = "POST"
    ) -> int:
        """Post to the ingress, or to the process that serves in-memory channels; the status."""
        url = f"{self.url_for(path, headers)}{path}"
        return self._http.request(method, url, headers=dict(headers), body=body).status

    def url_for(self, path: str, headers: Mapping[str, str]) -> str:
        """The URL of the process that accepts events for this path or Host."""
        in_memory = "/inmemorychannels/" in path or (
            self.channel_kind == "InMemoryChannel" and "-kn-channel." in headers.get("host", "")
        )
        return self.channel_url if in_memory else self.ingress_url

    @property
    def channel_url(self) -> str:
        """Where events for in-memory channels are accepted."""
        if self._in_memory_port is None:
            return self.ingress_url
        return f"http://127.0.0.1:{self._in_memory_port}"

    def run_in_memory(self) -> None:
        """Start the process that serves in-memory channels. Call it before `start`."""
        port = self._in_memory_port = lasting_port()
        controller = {**self._own_env.get("controller", {})}
        controller["HEADRACE_CONTROLLER_IN_MEMORY_URL"] = self.channel_url
        self._own_env = {**self._own_env, "controller": controller}
        own = ["--port", str(port)]
        self.run_with("in-memory", own, command="in-memory")

    def use_channels(self, kind: str) -> None:
        """Let Channels be backed by this kind, unless they name another."""
        self.channel_kind = kind
        version = CHANNEL_VERSIONS[kind]
        template = {"apiVersion": f"messaging.knative.dev/{version}", "kind": kind}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "default-ch-webhook", "namespace": "knative-eventing"},
                "data": {"default-ch-config": json.dumps({"clusterDefault": template})},
            }
        )


def lasting_port() -> int:
    """A free loopback port that stays reserved for a process across restarts.

    It is below the range from which the kernel takes ports for outgoing connections and `bind(0)`:
    those would take it while its process is stopped.
    """
    # Parallel test processes use separate ranges: one could not see that a port of another's
    # stopped process is reserved.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = random.SystemRandom().randrange(15_000 + worker % WORKERS_MAX, 32_000, WORKERS_MAX)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


_given: set[int] = set()


def path_of(manifest: Manifest) -> str:
    """The API path of a resource."""
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    group = "/api/v1" if manifest["apiVersion"] == "v1" else f"/apis/{manifest['apiVersion']}"
    return f"{group}/namespaces/{namespace}/{guess_plural(manifest['kind'])}/{name}"


def condition(resource: Manifest, kind: str) -> Mapping[str, Any]:
    """One condition of a resource's status; empty if it does not exist."""
    conditions: list[Mapping[str, Any]] = resource.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each.get("type") == kind), {})


def group_of(trigger: Manifest) -> str:
    """The consumer group of a Trigger from the API, or the name that it has without a collision."""
    annotations: Mapping[str, str] = trigger.get("status", {}).get("annotations", {})
    return (
        annotations.get("group.id")
        or f"knative-trigger-{trigger['metadata']['namespace']}-{trigger['metadata']['name']}"
    )


@contextlib.contextmanager
def kafka_for_headrace(directory: Path) -> Iterator[ApacheKafka]:
    """An Apache Kafka for one installation: it shares its control topics with no other."""
    lack = missing_requirement()
    if lack is not None:
        pytest.skip(f"a proof needs an Apache Kafka that it may stop and kill: {lack}")
    apache = ApacheKafka(directory / "kafka", heap_mb=384)
    try:
        apache.start()
        yield apache
    finally:
        apache.kill()


@contextlib.contextmanager
def headrace_in(
    directory: Path,
    *,
    dispatchers: int = 1,
    seed: int = 1,
    env: Mapping[str, str] | None = None,
    in_memory: bool = False,
) -> Iterator[HeadraceUnderTest]:
    """A started installation with its own Kafka; with a process for in-memory channels if that is
    asked for.
    """
    with kafka_for_headrace(directory) as apache:
        system = HeadraceUnderTest(apache.bootstrap_servers, directory, seed=seed, env=env)
        try:
            if in_memory:
                system.run_in_memory()
            yield system.start(dispatchers=dispatchers)
        except BaseException:
            print(system.processes.report())
            raise
        finally:
            system.close()


def _replaced(manifest: Manifest, present: Manifest) -> Manifest:
    version = present["metadata"]["resourceVersion"]
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}}


def wait_for_events(
    system: HeadraceUnderTest, sink: str, count: int, *, seconds: float = 15.0
) -> None:
    """Wait until a sink has accepted `count` distinct events."""
    wait_until(
        lambda: system.sinks.events(sink) >= count,
        seconds,
        f"{count} events reach {sink}; {system.sinks.counts(sink)}",
        every=0.05,
    )


def stays_true(predicate: Any, *, seconds: float) -> bool:
    """Whether `predicate` stays true for this time: for what must not happen, which only waiting
    can show.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not predicate():
            return False
        time.sleep(0.05)
    return True
