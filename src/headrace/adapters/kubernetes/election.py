"""Which of several controllers works in a cluster: the holder of a `coordination.k8s.io/v1` Lease.

The numbers are those of the Kubernetes controllers: a lease of 15 s, renewed every 2 s, given up by
its holder when it could not be renewed for 10 s, so that the holder stops before anybody else may
begin. Whether a lease is stale is judged by how long *this* process has seen no renewal, never by
another machine's clock.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from headrace.adapters.kubernetes.client import KubernetesClient
from headrace.domain.errors import Conflict, HeadraceError, NotFound
from headrace.domain.ports import Clock
from headrace.resources.resource import Resource, ResourceKind

_log = logging.getLogger("headrace.kubernetes")

LEASE = ResourceKind(
    group="coordination.k8s.io",
    version="v1",
    kind="Lease",
    plural="leases",
    singular="lease",
    has_status=False,
    served=False,
)
LEASE_SECONDS = 15.0
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Term:
    """One stretch of holding the Lease; `number` is above that of every earlier holder's."""

    number: int


class LeaderElector:
    """Takes part for as long as it runs. `changed` is called on the loop when this process becomes
    or ceases to be the holder.
    """

    def __init__(
        self,
        client: KubernetesClient,
        *,
        namespace: str,
        name: str,
        holder: str,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self._client = client
        self._namespace, self._name, self._holder = namespace, name, holder
        self._clock = clock
        self._changed = changed
        self._seen = ""
        self._seen_at = clock.monotonic()
        self._renewed_at = clock.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._term: Term | None = None
        self.uid = ""
        """Of the Lease: one for every cluster and namespace it may stand in."""
        self.holder = ""
        """Who holds it, as far as is known here."""

    @property
    def term(self) -> Term | None:
        """Of this process; None while another one holds the Lease, and once it could not be renewed
        in time, whoever has noticed.
        """
        return (
            self._term
            if self._clock.monotonic() - self._renewed_at <= RENEW_DEADLINE_SECONDS
            else None
        )

    def start(self) -> None:
        """Begin. Idempotent."""
        self._task = self._task or asyncio.create_task(self._run(), name="election")

    async def stop(self) -> None:
        """Let go of the Lease, so that the next one need not wait for it to go stale.
        Idempotent.
        """
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        held = self._term is not None
        self._end_term()
        if held:
            try:
                async with asyncio.timeout(RETRY_SECONDS):
                    lease = await self._client.get(LEASE, self._namespace, self._name)
                    if lease.spec.get("holderIdentity") == self._holder:
                        await self._client.replace(self._written(lease, holder=""))
            except (HeadraceError, TimeoutError) as error:
                _log.warning(
                    "the Lease was not given back, another controller takes it within %g s: %s",
                    LEASE_SECONDS,
                    error,
                )

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(RENEW_DEADLINE_SECONDS / 2):
                    await self._try_acquire_or_renew()
            except (Conflict, TimeoutError):
                pass  # Somebody was quicker, or nobody answers: the next turn shows.
            except HeadraceError as error:
                _log.warning("the Lease %s/%s: %s", self._namespace, self._name, error)
            except Exception:
                _log.exception("the election failed by an internal error")
            if self._term is not None and self.term is None:
                _log.warning(
                    "the Lease could not be renewed for %g s: this controller stops working",
                    RENEW_DEADLINE_SECONDS,
                )
                self._end_term()
            await asyncio.sleep(RETRY_SECONDS)

    async def _try_acquire_or_renew(self) -> None:
        # What counts is when the renewal was asked for: the others count from when the server wrote
        # it, which is not earlier.
        asked_at = self._clock.monotonic()
        try:
            lease = await self._client.get(LEASE, self._namespace, self._name)
        except NotFound:
            fresh = Resource(
                LEASE, {"metadata": {"name": self._name, "namespace": self._namespace}, "spec": {}}
            )
            self._on_acquired(
                await self._client.create(self._written(fresh, holder=self._holder)), asked_at
            )
            return
        self.holder = str(lease.spec.get("holderIdentity") or "")
        if lease.version != self._seen:
            self._seen, self._seen_at = lease.version, self._clock.monotonic()
        if self._term is not None and self.holder != self._holder:
            _log.warning("controller %s holds the Lease now", self.holder)
            self._end_term()
        stale = self._clock.monotonic() - self._seen_at > float(
            lease.spec.get("leaseDurationSeconds") or LEASE_SECONDS
        )
        if self.holder in ("", self._holder) or stale:
            self._on_acquired(
                await self._client.replace(self._written(lease, holder=self._holder)), asked_at
            )

    def _written(self, lease: Resource, *, holder: str) -> Resource:
        now = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = str(lease.spec.get("holderIdentity") or "")
        transitions = int(lease.spec.get("leaseTransitions") or 0)
        spec = {
            **lease.spec,
            "holderIdentity": holder,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "renewTime": now,
        }
        if holder and (holder != before or self._term is None):
            spec |= {"acquireTime": now, "leaseTransitions": transitions + 1}
        return Resource(LEASE, {**lease.object, "spec": spec})

    def _on_acquired(self, lease: Resource, asked_at: float) -> None:
        lapsed = self._term is not None and self.term is None
        self._renewed_at = asked_at
        self._seen, self._seen_at, self.holder, self.uid = (
            lease.version,
            self._clock.monotonic(),
            self._holder,
            lease.uid,
        )
        if self._term is None or lapsed:
            # After a lapse others may have acted: it is a new term.
            self._term = Term(int(lease.spec.get("leaseTransitions") or 0))
            _log.info("this controller holds the Lease %s/%s", self._namespace, self._name)
            self._changed()

    def _end_term(self) -> None:
        if self._term is not None:
            self._term = None
            self._changed()
