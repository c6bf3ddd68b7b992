"""Requests that wait to be written to the store: they are decided as one batch, stored in one
transaction, and answered.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headrace.codec.objects import InvalidObject, stored_bytes
from headrace.domain.errors import HeadraceError, Unstorable
from headrace.resources.resource import Resource, ResourceKey
from headrace.resources.resource_rules import ResourceIndex

RECORD_BYTES_MAX = 1_000_000
"""Limit of the value of a record, for writing and reading."""
_PENDING = "pending"
"""resourceVersion of an object that is decided but not stored: no client can have it."""

Decide = Callable[[Resource | None], Resource | None]


class PendingRecord(NamedTuple):
    """The object to store under a key, and the value of its record; both None to remove it."""

    key: ResourceKey
    new: Resource | None
    value: bytes | None


@dataclass(slots=True)
class Write:
    """A request: `decide` maps the stored object to the new one, or raises an error."""

    key: ResourceKey
    decide: Decide
    response: "asyncio.Future[Resource | None]"
    in_progress: bool = False
    """Whether it is being stored: then it can no longer be cancelled."""


@dataclass(frozen=True, slots=True)
class WriteResponse:
    """The response to a request when its batch is stored: `new`, at the offset of record
    `record_index` of the batch (-1: it was stored before).
    """

    write: Write
    new: Resource | None
    record_index: int

    def send(self, offsets: Sequence[int], index: ResourceIndex) -> None:
        """Send the response. Without offsets (the outcome of the batch had to be read from the
        log) it is the object stored now.
        """
        if self.write.response.done():
            return
        if self.new is None or self.record_index < 0:
            self.write.response.set_result(self.new)
        elif offsets:
            self.write.response.set_result(
                self.new.with_metadata(resourceVersion=str(offsets[self.record_index]))
            )
        else:
            self.write.response.set_result(index.get(self.write.key))


def decide(
    batch: Sequence[Write], index: ResourceIndex
) -> tuple[list[WriteResponse], list[PendingRecord]]:
    """Decide one request after the other. A request sees the results of the ones before it. A
    refused request is answered here.
    """
    responses: list[WriteResponse] = []
    records: list[PendingRecord] = []
    newest: dict[ResourceKey, tuple[Resource | None, int]] = {}
    for write in batch:
        old, record_index = newest.get(write.key, (index.get(write.key), -1))
        try:
            new = write.decide(old)
            value = record_value(new) if new is not old else None
        except HeadraceError as error:
            reject([write], error)
            continue
        if new is not old:
            record_index = len(records)
            records.append(PendingRecord(write.key, new, value))
            newest[write.key] = (
                new.with_metadata(resourceVersion=_PENDING) if new else None,
                record_index,
            )
        responses.append(WriteResponse(write, new, record_index))
    return responses, records


def record_value(resource: Resource | None) -> bytes | None:
    """Return a resource as the value of its record. The version is the offset of the record and not
    part of it.

    Raises Unstorable for a resource that could not be read back.
    """
    if resource is None:
        return None
    try:
        return stored_bytes(
            resource.with_metadata(resourceVersion=None).object, bytes_max=RECORD_BYTES_MAX
        )
    except InvalidObject as error:
        raise Unstorable(f"the object cannot be stored: {error}") from error


def reject(writes: Sequence[Write], error: HeadraceError) -> None:
    """Answer requests with an error."""
    for write in writes:
        if not write.response.done():
            write.response.set_exception(error)
