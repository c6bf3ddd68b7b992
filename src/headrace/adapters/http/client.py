"""HTTP/1.1 client that posts events to subscribers: implements `headrace.domain.ports.Sender` with
asyncio protocols and the httptools parser.

A request on a kept-alive connection needs no task, no future and no timer: `post` writes the
request, and the transport callback that receives the end of the response reports the outcome.

Limits apply to the open connections and waiting requests of each target, the size and number of
header fields of a response, and the size of a response body. One deadline per attempt covers the
time from `post` to the last byte. Redirects are never followed. Proxies set in the environment are
never used.
"""

import asyncio
from collections.abc import Callable

from headrace.adapters.http.client_body_budget import BodyBudget
from headrace.adapters.http.client_deadlines import Deadlines
from headrace.adapters.http.client_dialer import Dialer, TargetTls
from headrace.adapters.http.client_options import ClientCounts, ClientOptions, deny_none
from headrace.adapters.http.client_resolver import Lookup, Resolver, resolve
from headrace.adapters.http.client_target import HttpTarget
from headrace.domain.target_url import parse_target_url

_POLICY_CHECKS_MAX = 8
"""Maximum number of concurrent name lookups that only serve the address policy. It leaves most of
the lookup capacity to event delivery.
"""


class HttpSender:
    """Creates targets that share deadlines, a DNS cache and counters."""

    def __init__(self, options: ClientOptions | None = None, *, lookup: Lookup = resolve) -> None:
        """Bind to the running event loop, which must be the loop that the sender is used on.
        `lookup` replaces the system resolver.
        """
        self.options = options or ClientOptions()
        self.counts = ClientCounts()
        self._loop = asyncio.get_running_loop()
        self._targets: set[HttpTarget] = set()
        self._addresses = Resolver(
            self._loop, fresh_seconds=self.options.addresses_seconds, lookup=lookup
        )
        self._body_budget = BodyBudget(self.options.bodies_bytes_max, self._loop)
        self._policy_checks: set[asyncio.Task[None]] = set()
        self._policy_check_slots = asyncio.Semaphore(_POLICY_CHECKS_MAX)
        self._deadlines = Deadlines(self._loop, rest=self._close_unused)

    def target(
        self,
        url: str,
        *,
        connections_max: int,
        ca_certs: str | None = None,
        reply_bytes_max: Callable[[], int] | None = None,
    ) -> HttpTarget:
        """Return a target for an absolute http or https URL; see
        `headrace.domain.ports.Sender.target`.
        """
        parsed = parse_target_url(url)
        tls = TargetTls(ca_certs) if parsed.scheme == "https" else None
        target = HttpTarget(
            parsed,
            connections_max=connections_max,
            dialer=Dialer(parsed, self._addresses, self.options, tls=tls),
            deadlines=self._deadlines,
            options=self.options,
            counts=self.counts,
            body_budget=self._body_budget,
            reply_bytes_max=reply_bytes_max,
            loop=self._loop,
        )
        self._targets.add(target)
        if self.options.address_denied is not deny_none:
            self._start_policy_check(target)
        return target

    def _start_policy_check(self, target: HttpTarget) -> None:
        """Start a policy check in the background, so that a denied destination is reported before
        its first event, also when its URL has a host name instead of an address.
        """
        task = self._loop.create_task(self._check_policy(target))
        self._policy_checks.add(task)
        task.add_done_callback(self._policy_checks.discard)

    async def _check_policy(self, target: HttpTarget) -> None:
        async with self._policy_check_slots:
            await target.check_policy()

    async def stop(self) -> None:
        """Close all connections and cancel all requests without reporting their outcomes."""
        self._deadlines.stop()
        for task in self._policy_checks:
            task.cancel()
        for target in self._targets:
            await target.stop()
        self._targets.clear()
        # Transports call `connection_lost` in the next iteration of the event loop.
        await asyncio.sleep(0)

    def _close_unused(self, now: float) -> bool:
        self._targets = {target for target in self._targets if not target.finished}
        return sum(target.close_unused(now) for target in self._targets) > 0
