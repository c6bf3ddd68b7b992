"""The steps of `headrace up` after startup: apply manifests, wait until they are Ready, send a
first event. If resources of an earlier run exist, they belong to the user, and none of this is
done.

It uses the same HTTP APIs as any other client.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import urllib3

from headrace.adapters.manifests import Manifest, read_manifests, read_paths
from headrace.domain.errors import Permanent
from headrace.resources.conditions import READY, is_true
from headrace.runtime.sockets import VIEWER_PORT
from headrace_cli.apply import (
    AppliedObject,
    NoNamespace,
    NotReady,
    apply_manifest,
    create_namespace,
    wait_ready,
)
from headrace_cli.client import ApiClient, ApiFailure

ASK_SECONDS = 10.0
READY_SECONDS = 30.0
AGAIN_SECONDS = 0.1
SAMPLE_TYPE = "order.created"


class QuickstartFailed(Permanent):
    """A manifest was rejected or did not become Ready, or the event was not accepted; the message
    says which and why.
    """


@dataclass(frozen=True, slots=True)
class ExistingResources:
    """Number of Brokers and Triggers left by earlier runs."""

    brokers: int
    triggers: int

    def __str__(self) -> str:
        return f"{_counted(self.brokers, 'Broker')} and {_counted(self.triggers, 'Trigger')}"


def existing_resources(client: ApiClient) -> ExistingResources | None:
    """Count existing Brokers and Triggers; None if there are none. Blocking. Raises
    `QuickstartFailed`.
    """
    found = ExistingResources(len(_all(client, "Broker")), len(_all(client, "Trigger")))
    return found if found.brokers or found.triggers else None


def find_ready_broker(client: ApiClient, seconds: float) -> str | None:
    """Return `namespace/name` of a Broker that accepts events, preferably a Ready one; None if none
    does in time. Blocking. Raises `QuickstartFailed`.
    """
    deadline = time.monotonic() + seconds
    while brokers := _all(client, "Broker"):
        # A Broker without an address has another class, or its ingress has just started.
        taking = sorted(
            (each for each in brokers if address(each)),
            key=lambda each: not is_true(each.status, READY),
        )
        if taking:
            return f"{taking[0].namespace}/{taking[0].name}"
        if time.monotonic() > deadline:
            break
        time.sleep(AGAIN_SECONDS)
    return None


def _all(client: ApiClient, name: str) -> list[AppliedObject]:
    try:
        kind = client.kind_of("eventing.knative.dev/v1", name)
        return [
            AppliedObject(kind, each)
            for each in client.call("GET", kind.path(None))[1].get("items") or ()
        ]
    except ApiFailure as failure:
        raise QuickstartFailed(str(failure)) from failure


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def manifests(paths: Sequence[Path], *, viewer_port: int) -> list[Manifest]:
    """Return the manifests in `paths`, or those of the quickstart if `paths` is empty. Raises
    `InvalidManifest`.
    """
    if paths:
        return read_paths(paths)
    text = _quickstart().replace(f"127.0.0.1:{VIEWER_PORT}/", f"127.0.0.1:{viewer_port}/")
    return read_manifests(text.encode(), "examples/quickstart/quickstart.yaml")


def _quickstart() -> str:
    """Return the packaged file, or the file in the checkout."""
    packaged = files("headrace_cli").joinpath("quickstart.yaml")
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (
        Path(__file__)
        .parents[2]
        .joinpath("examples", "quickstart", "quickstart.yaml")
        .read_text(encoding="utf-8")
    )


def apply(
    client: ApiClient, wanted: Sequence[Manifest], slow: Callable[[str], None] = lambda _: None
) -> list[AppliedObject]:
    """Apply manifests, wait until they are Ready, and return the objects with a Ready condition;
    `slow` as in `wait_ready`. Blocking. Raises `QuickstartFailed`.
    """
    ready: list[AppliedObject] = []
    place = ""
    try:
        applied = []
        for manifest in wanted:
            place = f"{manifest.place}: "
            applied.append(_applied(client, manifest))
        place = ""
        wait_ready(client, applied, READY_SECONDS, ready.append, slow)
    except (ApiFailure, NotReady) as error:
        raise QuickstartFailed(f"{place}{error}") from error
    return ready


def _applied(client: ApiClient, manifest: Manifest) -> AppliedObject:
    """Apply one manifest. Retries while the controller has just started and cannot write yet."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            # The user started this program with these files, so they override other changes.
            return apply_manifest(client, manifest, "default", force=True)
        except NoNamespace as missing:
            # Create namespaces that the files use and that do not exist yet.
            create_namespace(client, missing.name)
        except ApiFailure as failure:
            if failure.code != 503 or time.monotonic() > deadline:
                raise
            time.sleep(AGAIN_SECONDS)


def address(applied: AppliedObject) -> str | None:
    """Return the URL that accepts events, or None."""
    found = applied.status.get("address")
    url = found.get("url") if isinstance(found, Mapping) else None
    return url if isinstance(url, str) else None


def sample_headers() -> dict[str, str]:
    """Return the headers of the first event. Both Triggers of the quickstart match it."""
    return {
        "ce-specversion": "1.0",
        "ce-id": str(uuid.uuid4()),
        "ce-source": "/headrace/up",
        "ce-type": SAMPLE_TYPE,
        "ce-amount": "1500",
        "content-type": "application/json",
    }


def send(url: str, headers: dict[str, str]) -> None:
    """Post an event. Raises `QuickstartFailed` unless it was accepted."""
    try:
        with urllib3.PoolManager(retries=False, timeout=ASK_SECONDS) as pool:
            response = pool.request(
                "POST", url, body=b'{"order": 1, "item": "espresso machine"}', headers=headers
            )
    except urllib3.exceptions.HTTPError as error:
        raise QuickstartFailed(f"{url} does not answer: {error}") from error
    if response.status != 202:
        raise QuickstartFailed(
            f"{url} answered {response.status}: {response.data[:300].decode(errors='replace')}"
        )


def curl(url: str) -> str:
    """Return the command that sends the next event."""
    return (
        f"curl -i {url} -H 'ce-specversion: 1.0' -H \"ce-id: $RANDOM\" -H 'ce-source: /me'"
        f" -H 'ce-type: {SAMPLE_TYPE}' -H 'ce-amount: 20' -H 'content-type: application/json'"
        " -d '{\"order\": 2}'"
    )
