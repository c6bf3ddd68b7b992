"""Leader election in a cluster: the leader is the holder of a `coordination.k8s.io/v1` Lease.

The intervals are those of the Kubernetes controllers: a lease of 15 s, renewed every 2 s. The
holder gives it up if it could not be renewed for 10 s, so that the holder stops before another
controller may start. A lease is stale if *this* process has seen no renewal for its duration; the
clocks of other machines are never used.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from headrace.adapters.kubernetes.client import KubernetesClient
from headrace.domain.errors import Conflict, HeadraceError, NotFound
from headrace.domain.ports import Clock
from headrace.resources.resource import Resource, ResourceKind

logger = structlog.get_logger(__name__)

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
    """One leadership term; `number` is higher than that of every earlier term."""

    number: int


class LeaderElector:
    """Takes part in the election while it runs. `changed` is called on the event loop when this
    process becomes the leader, and when it is no longer the leader.
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
        """The uid of the Lease: unique to its cluster and namespace."""
        self.holder = ""
        """The current holder, as far as this process knows."""

    @property
    def term(self) -> Term | None:
        """This process's term; None while another process is the leader, and also once the Lease
        could not be renewed in time, even before that has been handled.
        """
        return (
            self._term
            if self._clock.monotonic() - self._renewed_at <= RENEW_DEADLINE_SECONDS
            else None
        )

    def start(self) -> None:
        """Start. Idempotent."""
        self._task = self._task or asyncio.create_task(self._run(), name="election")

    async def stop(self) -> None:
        """Release the Lease, so that the next leader need not wait for it to expire. Idempotent."""
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
                logger.warning(
                    "lease_not_released",
                    namespace=self._namespace,
                    name=self._name,
                    error=str(error),
                    expires_in_seconds=LEASE_SECONDS,
                )

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(RENEW_DEADLINE_SECONDS / 2):
                    await self._try_acquire_or_renew()
            except (Conflict, TimeoutError):
                pass  # Another controller was faster, or the server does not answer: try again.
            except HeadraceError as error:
                logger.warning(
                    "lease_request_failed",
                    namespace=self._namespace,
                    name=self._name,
                    error=str(error),
                )
            except Exception:
                logger.exception(
                    "election_internal_error",
                    next_step="please report this as a bug of Headrace",
                )
            if self._term is not None and self.term is None:
                logger.warning(
                    "leadership_lost",
                    error=f"the Lease could not be renewed for {RENEW_DEADLINE_SECONDS:g} s",
                    namespace=self._namespace,
                    name=self._name,
                    next_step="check the connection to the Kubernetes API server",
                )
                self._end_term()
            await asyncio.sleep(RETRY_SECONDS)

    async def _try_acquire_or_renew(self) -> None:
        # The time of the request counts: other controllers count from the time of the server's
        # write, which is not earlier.
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
            logger.warning(
                "leadership_lost",
                error=f"the Lease is held by {self.holder or 'nobody'}",
                namespace=self._namespace,
                name=self._name,
            )
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
            # After a lapse another controller may have written: this is a new term.
            self._term = Term(int(lease.spec.get("leaseTransitions") or 0))
            logger.info(
                "leadership_acquired",
                namespace=self._namespace,
                name=self._name,
                epoch=self._term.number,
            )
            self._changed()

    def _end_term(self) -> None:
        if self._term is not None:
            self._term = None
            self._changed()
