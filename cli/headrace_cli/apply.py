"""Applying a manifest: create it, or bring what is there to what it says, keeping what it does not speak of."""

import time
from collections.abc import Callable, Sequence
from enum import StrEnum

from headrace.domain.conditions import READY, condition_of, is_true
from headrace.domain.resources import Resource
from headrace_cli.client import ApiClient, ApiFailure

_TURNS = 5
_LOOK_SECONDS = 0.1
_KEPT = ("labels", "annotations")


class Applied(StrEnum):
    """What applying did."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"


class NotReady(Exception):
    """Something did not become Ready in time; the message says what and why."""


def apply_manifest(client: ApiClient, wanted: Resource) -> tuple[Resource, Applied]:
    """Create or replace; raises ApiFailure. Somebody who writes at the same time is not overwritten: it is merged again."""
    for turn in range(_TURNS):
        old = client.get(wanted.kind, wanted.namespace, wanted.name)
        try:
            if old is None:
                return client.create(wanted), Applied.CREATED
            new = client.replace(merge(wanted, old))
            # The API stores nothing where nothing changes, defaults included.
            return new, Applied.UNCHANGED if new.version == old.version else Applied.CONFIGURED
        except ApiFailure as failure:
            if failure.reason not in ("Conflict", "AlreadyExists") or turn == _TURNS - 1:
                raise
    raise AssertionError("the last turn returns or raises")


def merge(wanted: Resource, old: Resource) -> Resource:
    """The manifest as a replacement of `old`: its own spec and data; labels and annotations over the old ones; other metadata as it is."""
    metadata = dict(old.metadata)
    for name in _KEPT:
        entries = {**(old.metadata.get(name) or {}), **(wanted.metadata.get(name) or {})}
        if entries:
            metadata[name] = entries
    return Resource(wanted.kind, {**{key: value for key, value in wanted.object.items() if key != "status"}, "metadata": metadata})


def wait_ready(client: ApiClient, resources: Sequence[Resource], seconds: float, ready: Callable[[Resource], None]) -> None:
    """Wait until all of these are Ready at the generation that was applied, telling `ready` of each. Raises NotReady, ApiFailure."""
    deadline = time.monotonic() + seconds
    for resource in resources:
        while resource.kind.has_status:
            found = client.get(resource.kind, resource.namespace, resource.name)
            if found is None:
                raise NotReady(f"{resource.kind.singular} {resource.name} was deleted meanwhile")
            if found.status.get("observedGeneration", 0) >= resource.generation and is_true(found.status, READY):
                ready(found)
                break
            if time.monotonic() > deadline:
                raise NotReady(_why(found, seconds))
            time.sleep(_LOOK_SECONDS)


def _why(resource: Resource, seconds: float) -> str:
    condition = condition_of(resource.status, READY)
    told = f"{condition.reason or condition.status}: {condition.message}" if condition else "it has no status: is a controller writing?"
    where = f"{resource.kind.singular} {resource.name} -n {resource.namespace}"
    return f"{resource.kind.singular} {resource.name} is not Ready after {seconds:g} s ({told}); `headrace describe {where}` shows more"
