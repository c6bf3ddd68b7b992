"""Core v1 Events: what happened to a resource, for `kubectl describe` and `kubectl get events`.

Callers hand an event to the recorder, which returns at once; the leader stores it later, equal
events as one Event with a count. Events are for people and are kept for an hour, at most a thousand
of them; a failure to store one is never an error of its caller.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from headrace.domain.errors import Conflict, HeadraceError, NotFound
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Change, NamespaceTerminating, Resource, ResourceKind
from headrace.resources.timestamps import write_time
from headrace_apiserver.controllers.control_loop import ControlLoop

EVENT = ResourceKind(
    group="",
    version="v1",
    kind="Event",
    plural="events",
    singular="event",
    short_names=("ev",),
    has_status=False,
    has_generation=False,
)
NORMAL, WARNING = "Normal", "Warning"
KEPT_MAX = 1_000
KEPT_SECONDS = 3_600.0
_WAITING_MAX = 500
_TOGETHER_MAX = 50
"""Events that are written at the same time; the store groups them."""
_SWEEP_SECONDS = 60.0
_MESSAGE_MAX = 1_024
_COMPONENT = "headrace-controller"
_PASSED_OVER = (NotFound, Conflict, NamespaceTerminating)
"""Errors that concern one Event only."""


def create_event_recorder(
    store: ResourceStore, now: Callable[[], datetime], *, stamp: str = ""
) -> tuple["EventRecorder", ControlLoop]:
    """A recorder, and the control loop that stores its events."""
    recorder = EventRecorder(store, now, stamp=stamp)
    control_loop = ControlLoop("events", store, recorder.reconcile, recorder.is_relevant)
    recorder.wake = control_loop.wake
    return recorder, control_loop


@dataclass(slots=True)
class PendingEvent:
    """Something that happened, once or more often, and is not stored yet."""

    regarding: Resource
    type: str
    reason: str
    message: str
    times: int
    last: datetime


class EventRecorder:
    """Accepts events on the event loop; its `reconcile` is run by a control loop of the leader
    (`headrace_apiserver.controllers.control_loop`).
    """

    def __init__(
        self, store: ResourceStore, now: Callable[[], datetime], *, stamp: str = ""
    ) -> None:
        """`stamp` becomes part of the names of Events, so that a new process does not collide with
        the Events of an earlier one, whose counts it cannot continue.
        """
        self._store = store
        self._stamp = stamp
        self._now = now
        self.wake: Callable[[], None] = lambda: None
        """Called when there is something to store."""
        self._waiting: OrderedDict[str, PendingEvent] = OrderedDict()
        self._swept_at: datetime | None = None

    def event(self, regarding: Resource, type_: str, reason: str, message: str) -> None:
        """Record that something happened to a resource; `type_` is NORMAL or WARNING. Never fails,
        never waits.
        """
        name = _name(self._stamp, regarding, type_, reason, message)
        pending = self._waiting.get(name)
        if pending is not None:
            pending.times += 1
            pending.last = self._now()
        else:
            self._waiting[name] = PendingEvent(
                regarding, type_, reason, message[:_MESSAGE_MAX], 1, self._now()
            )
            if len(self._waiting) > _WAITING_MAX:
                self._waiting.popitem(last=False)
        self.wake()

    def is_relevant(self, change: Change) -> bool:
        """False: no change of the store makes work for the recorder; `event` wakes it."""
        return False

    async def reconcile(self) -> float | None:
        """Store pending events, and delete old ones."""
        while self._waiting:
            count = min(len(self._waiting), _TOGETHER_MAX)
            batch = [self._waiting.popitem(last=False) for _ in range(count)]
            results = await asyncio.gather(
                *(self._store_one(name, pending) for name, pending in batch), return_exceptions=True
            )
            for result in results:
                if result is not None and not isinstance(result, _PASSED_OVER):
                    raise result
        now = self._now()
        if self._swept_at is None or now - self._swept_at >= timedelta(seconds=_SWEEP_SECONDS):
            self._swept_at = now
            await self._sweep(now)
        return _SWEEP_SECONDS

    async def _store_one(self, name: str, pending: PendingEvent) -> None:
        regarding = pending.regarding
        namespace = regarding.namespace or "default"
        try:
            stored = self._store.get(EVENT, namespace, name)
        except NotFound:
            await self._store.create(_event(name, namespace, pending))
            return
        count = stored.object.get("count")
        updated = {
            **stored.object,
            "count": (count if isinstance(count, int) else 1) + pending.times,
            "lastTimestamp": write_time(pending.last),
        }
        await self._store.replace(Resource(EVENT, updated))

    async def _sweep(self, now: datetime) -> None:
        """Delete Events older than an hour, and the oldest beyond a thousand."""
        events = sorted(self._store.list(EVENT), key=_last_seen)
        oldest = write_time(now - timedelta(seconds=KEPT_SECONDS))
        excess = len(events) - KEPT_MAX
        for number, each in enumerate(events):
            if number >= excess and _last_seen(each) >= oldest:
                return
            try:
                await self._store.delete(EVENT, each.namespace, each.name)
            except NotFound:
                continue
            except HeadraceError:
                # The next sweep is in a minute.
                return


def _name(stamp: str, regarding: Resource, type_: str, reason: str, message: str) -> str:
    """Equal events about the same object have the same name."""
    text = f"{stamp}|{regarding.uid}|{type_}|{reason}|{message}"
    return f"{regarding.name[:230].rstrip('-.')}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _event(name: str, namespace: str, pending: PendingEvent) -> Resource:
    regarding = pending.regarding
    stamp = write_time(pending.last)
    about = {
        "kind": regarding.kind.kind,
        "namespace": regarding.namespace,
        "name": regarding.name,
        "uid": regarding.uid,
        "apiVersion": regarding.kind.api_version,
        "resourceVersion": regarding.version,
    }
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {key: value for key, value in about.items() if value},
        "reason": pending.reason,
        "message": pending.message,
        "source": {"component": _COMPONENT},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": pending.times,
        "type": pending.type,
        "reportingComponent": _COMPONENT,
        "reportingInstance": "",
    }
    return Resource(EVENT, document)


def _last_seen(event: Resource) -> str:
    return str(
        event.object.get("lastTimestamp")
        or event.object.get("eventTime")
        or event.metadata.get("creationTimestamp")
        or ""
    )
