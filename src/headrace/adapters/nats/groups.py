"""What JetStream itself does not keep of consumer groups, in two key-value buckets.

`headrace_groups`, key `<durable>.<stream>`: that the group reads this topic, the topic's id when it
began, and an offset below which every record is done. For a group whose members share the work this
is where it began, and the durable consumer knows the rest. For an exclusive feed it is the position
itself, with the text of `OffsetTracker.metadata`.

`headrace_members`, whose entries expire after 6 s: key `member.<process>` lists the groups that a
process reads, key `owner.<durable>.<stream>` is the lease of an exclusive feed.
"""

import asyncio
import base64
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from headrace.adapters.nats.connection import NatsConnection
from headrace.adapters.nats.errors import ApiError, call_error
from headrace.adapters.nats.names import durable_name, stream_name
from headrace.adapters.nats.replicas import replicated_config
from headrace.domain.errors import LogUnavailable

LEASE_SECONDS: Final = 6.0
POSITIONS: Final = "headrace_groups"
MEMBERS: Final = "headrace_members"
_SECOND_NS: Final = 1_000_000_000
_REPLICAS: Final = 3
"""Of the buckets, where the cluster has enough servers."""
_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"


@dataclass(frozen=True, slots=True)
class Entry:
    """The value of a key; `revision` is 0 for a key that does not exist."""

    value: bytes = b""
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPosition:
    """What a group has committed in one topic (module docstring)."""

    topic_id: str
    offset: int
    metadata: str = ""
    revision: int = 0

    def encode(self) -> bytes:
        """Return the value of its entry."""
        fields: dict[str, object] = {"topic": self.topic_id, "offset": self.offset}
        if self.metadata:
            fields["metadata"] = self.metadata
        return json.dumps(fields).encode()


class Buckets:
    """Reads and writes the two buckets."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection
        self._exist = False
        self._lock = asyncio.Lock()

    async def create(self) -> None:
        """Create the buckets that do not exist. Raises `LogUnavailable`, `WriteRefused`."""
        async with self._lock:
            if not self._exist:
                await self._create(POSITIONS, {})
                await self._create(MEMBERS, {"max_age": int(LEASE_SECONDS * _SECOND_NS)})
                self._exist = True

    async def _call(self, bucket: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        await self.create()
        try:
            return await self._connection.call(f"{path}.KV_{bucket}", body)
        except ApiError as error:
            if error.stream_missing:
                self._exist = False
                raise LogUnavailable(
                    f"key-value bucket {bucket} was deleted; it is created again"
                ) from error
            raise

    async def _create(self, bucket: str, settings: Mapping[str, object]) -> None:
        name = f"KV_{bucket}"
        config = {
            "name": name,
            "subjects": [f"$KV.{bucket}.>"],
            "max_msgs_per_subject": 1,
            "discard": "new",
            "storage": "file",
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            **settings,
        }
        for replicas in (_REPLICAS, 1):
            try:
                await self._connection.call(
                    f"STREAM.CREATE.{name}", {**config, "num_replicas": replicas}
                )
                return
            except ApiError as error:
                if error.stream_exists:
                    return
                # After an error that will pass, a complete cluster would be left with one replica.
                if replicas == 1 or (error.temporary and not error.replicas_refused):
                    raise call_error(error, f"key-value bucket {bucket}") from error

    async def replicate(self) -> int:
        """Return how many replicas the buckets have, after an attempt to replicate those that could
        not be when they were created: the cluster was not complete yet, or had one server. Raises
        `ApiError`, `LogUnavailable`, `WriteRefused`.
        """
        return min([await self._replicate(bucket) for bucket in (POSITIONS, MEMBERS)])

    async def _replicate(self, bucket: str) -> int:
        answer = await self._call(bucket, "STREAM.INFO", {})
        replicas = int(answer["config"].get("num_replicas") or 1)
        config = replicated_config(answer, _REPLICAS)
        if config is None:
            return replicas
        try:
            await self._call(bucket, "STREAM.UPDATE", config)
        except (ApiError, LogUnavailable):
            return replicas  # It can be used as it is.
        return _REPLICAS

    async def get(self, bucket: str, key: str) -> Entry:
        """Return the entry of a key. Raises `ApiError`, `LogUnavailable`."""
        try:
            answer = await self._call(
                bucket, "STREAM.MSG.GET", {"last_by_subj": f"$KV.{bucket}.{key}"}
            )
        except ApiError as error:
            if error.missing:
                return Entry()
            raise
        message: dict[str, Any] = answer["message"]
        return Entry(base64.b64decode(message.get("data") or ""), int(message["seq"]))

    async def put(
        self,
        bucket: str,
        key: str,
        value: bytes,
        *,
        revision: int | None = None,
        timeout_seconds: float | None = None,
    ) -> int:
        """Store an entry and return its revision; with `revision`, only if the key has this one
        (0: does not exist). Raises `ApiError`, `LogUnavailable`.
        """
        await self.create()
        answer = await self._connection.request(
            f"$KV.{bucket}.{key}",
            value,
            headers=None if revision is None else {_EXPECTED: str(revision)},
            timeout_seconds=timeout_seconds,
            what=f"key-value bucket {bucket}",
        )
        found: dict[str, Any] = json.loads(answer.data)
        if "error" in found:
            raise ApiError(found["error"])
        return int(found["seq"])

    async def delete(self, bucket: str, key: str) -> None:
        """Remove a key. Raises `ApiError`, `LogUnavailable`."""
        await self._call(bucket, "STREAM.PURGE", {"filter": f"$KV.{bucket}.{key}"})

    async def keys(self, bucket: str, pattern: str) -> Collection[str]:
        """Return the keys that match a pattern of subjects. Raises `ApiError`,
        `LogUnavailable`.
        """
        prefix, found, total = f"$KV.{bucket}.", list[str](), 1
        while len(found) < total:
            answer = await self._call(
                bucket,
                "STREAM.INFO",
                {"subjects_filter": prefix + pattern, "offset": len(found)},
            )
            subjects: dict[str, int] = answer["state"].get("subjects") or {}
            if not subjects:
                break
            found += [subject.removeprefix(prefix) for subject in subjects]
            total = int(answer.get("total", 0))
        return found

    # Positions.

    async def position(self, group: str, topic: str) -> GroupPosition | None:
        """Return what a group has committed in a topic, None if nothing."""
        entry = await self.get(POSITIONS, position_key(group, topic))
        if not entry.revision or not entry.value:
            return None
        fields: dict[str, Any] = json.loads(entry.value)
        return GroupPosition(
            topic_id=str(fields.get("topic", "")),
            offset=int(fields["offset"]),
            metadata=str(fields.get("metadata", "")),
            revision=entry.revision,
        )

    async def save_position(
        self, group: str, topic: str, position: GroupPosition, *, revision: int | None = None
    ) -> GroupPosition:
        """Store a position and return it with its new revision; raises as `put`."""
        stored = await self.put(
            POSITIONS, position_key(group, topic), position.encode(), revision=revision
        )
        return replace(position, revision=stored)

    async def members(self) -> Collection[str]:
        """Return the durable names that live processes read."""
        found: set[str] = set()
        for key in await self.keys(MEMBERS, "member.*"):
            entry = await self.get(MEMBERS, key)
            if entry.value:
                found.update(json.loads(entry.value))
        return found


def position_key(group: str, topic: str) -> str:
    """The key of a group's position in a topic; also identifies the lease."""
    return f"{durable_name(group)}.{stream_name(topic)}"
