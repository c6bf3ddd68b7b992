"""What `headrace up` does once everything runs: applies manifests, waits until they are Ready, sends a first event.

All of it through the same HTTP APIs that everybody else uses.
"""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import urllib3

from headrace.adapters.manifests import Manifest, read_manifests, read_paths
from headrace.domain.errors import Permanent
from headrace.domain.kinds import KINDS
from headrace.domain.resources import ResourceKind
from headrace_cli.ports import VIEWER_PORT

ASK_SECONDS = 10.0
READY_SECONDS = 30.0
SAMPLE_TYPE = "order.created"


class NotApplied(Permanent):
    """A manifest was refused, or did not become Ready; the message names it and why."""


@dataclass(frozen=True, slots=True)
class Applied:
    """One resource as it stands."""

    kind: ResourceKind
    document: dict[str, Any]

    @property
    def title(self) -> str:
        """`Broker default/default`."""
        metadata = self.document["metadata"]
        return f"{self.kind.kind} {metadata['namespace']}/{metadata['name']}"

    @property
    def condition(self) -> dict[str, Any]:
        """Its Ready condition, empty before there is one."""
        conditions = self.document.get("status", {}).get("conditions", [])
        return next((each for each in conditions if each.get("type") == "Ready"), {})

    @property
    def ready(self) -> bool:
        """Whether it is Ready, of this generation; kinds without a status always are."""
        if not self.kind.has_status:
            return True
        seen = self.document.get("status", {}).get("observedGeneration")
        return self.condition.get("status") == "True" and seen == self.document["metadata"].get("generation")

    @property
    def url(self) -> str | None:
        """Where it takes events, if it does."""
        address = self.document.get("status", {}).get("address", {})
        return address.get("url") if isinstance(address, dict) else None


def manifests(paths: Sequence[Path], *, viewer_port: int) -> list[Manifest]:
    """Those of `paths`, or of the quickstart when there are none. Raises `InvalidManifest`."""
    if paths:
        return read_paths(paths)
    text = _quickstart().replace(f"127.0.0.1:{VIEWER_PORT}/", f"127.0.0.1:{viewer_port}/")
    return read_manifests(text.encode(), "examples/quickstart.yaml")


def _quickstart() -> str:
    """The file as packaged, or in the checkout this runs from."""
    packaged = files("headrace_cli").joinpath("quickstart.yaml")
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return Path(__file__).parents[2].joinpath("examples", "quickstart.yaml").read_text(encoding="utf-8")


class Api:
    """The controller's API, as far as this needs it. Blocking; run it on a thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(retries=False, timeout=ASK_SECONDS)

    def apply(self, manifest: Manifest) -> Applied:
        """Replace it, or create it when it is not there. Raises `NotApplied` with the API's own words."""
        document = manifest.document
        kind = KINDS.of_type(str(document.get("apiVersion")), str(document.get("kind")))
        if kind is None:
            raise NotApplied(f"{manifest.place}: no kind {document.get('apiVersion')} {document.get('kind')} is known here")
        metadata = document.get("metadata") or {}
        namespace, name = metadata.get("namespace", "default"), metadata.get("name", "")
        status, answer = self._ask("PUT", f"{self._collection(kind, namespace)}/{name}", document)
        if status == 404:
            status, answer = self._ask("POST", self._collection(kind, namespace), document)
        if status not in (200, 201):
            raise NotApplied(f"{manifest.place}: {kind.kind} {namespace}/{name} was refused: {answer.get('message', status)}")
        return Applied(kind, answer)

    def wait_until_ready(self, applied: Sequence[Applied], *, timeout_seconds: float = READY_SECONDS) -> Iterator[Applied]:
        """Give each once it is Ready. Raises `NotApplied` naming one that is not in time, with its reason."""
        deadline = time.monotonic() + timeout_seconds
        for each in applied:
            now = each
            while not now.ready:
                if time.monotonic() > deadline:
                    reason = now.condition.get("message") or now.condition.get("reason") or "no condition yet"
                    raise NotApplied(f"{each.title} is not Ready after {timeout_seconds:g} s: {reason}")
                time.sleep(0.05)
                now = self.get(each)
            yield now

    def get(self, applied: Applied) -> Applied:
        """The same resource as it stands now."""
        metadata = applied.document["metadata"]
        status, answer = self._ask("GET", f"{self._collection(applied.kind, metadata['namespace'])}/{metadata['name']}")
        if status != 200:
            raise NotApplied(f"{applied.title} is gone: {answer.get('message', status)}")
        return Applied(applied.kind, answer)

    def _collection(self, kind: ResourceKind, namespace: str) -> str:
        root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        return f"{self._url}{root}/namespaces/{namespace}/{kind.plural}"

    def _ask(self, method: str, url: str, document: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        body = None if document is None else json.dumps(document).encode()
        try:
            response = self._pool.request(method, url, body=body, headers={"content-type": "application/json"})
            answer = response.json() if response.data else {}
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise NotApplied(f"the controller's API at {self._url} does not answer: {error}") from error
        return response.status, answer if isinstance(answer, dict) else {}


def sample_headers() -> dict[str, str]:
    """The first event: both Triggers of the quickstart match it."""
    return {
        "ce-specversion": "1.0",
        "ce-id": str(uuid.uuid4()),
        "ce-source": "/headrace/up",
        "ce-type": SAMPLE_TYPE,
        "ce-amount": "1500",
        "content-type": "application/json",
    }


def send(url: str, headers: dict[str, str]) -> None:
    """Post an event. Raises `NotApplied` unless it was accepted."""
    try:
        with urllib3.PoolManager(retries=False, timeout=ASK_SECONDS) as pool:
            response = pool.request("POST", url, body=b'{"order": 1, "item": "espresso machine"}', headers=headers)
    except urllib3.exceptions.HTTPError as error:
        raise NotApplied(f"{url} does not answer: {error}") from error
    if response.status != 202:
        raise NotApplied(f"{url} answered {response.status}: {response.data[:300].decode(errors='replace')}")


def curl(url: str) -> str:
    """The command for the next event."""
    return (
        f"curl -i {url} -H 'ce-specversion: 1.0' -H \"ce-id: $RANDOM\" -H 'ce-source: /me' -H 'ce-type: {SAMPLE_TYPE}' "
        "-H 'ce-amount: 20' -H 'content-type: application/json' -d '{\"order\": 2}'"
    )
