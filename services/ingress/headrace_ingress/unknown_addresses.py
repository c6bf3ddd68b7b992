"""Requests for an address that the routing table does not have yet.

A 404 makes a sender give up, so it is sent only after the routing table was read to its end
after the request arrived. Requests wait for one shared refresh; when it fails or takes too long
they get a 503.
"""

import asyncio
from collections.abc import Callable

import structlog

from headrace.adapters.http.server import Exchange
from headrace.domain.errors import HeadraceError
from headrace.domain.ports import RoutingReader
from headrace_ingress.error_responses import ErrorResponses
from headrace_ingress.problems import ProblemType
from headrace_ingress.route_cache import RouteCache

logger = structlog.get_logger(__name__)

_REFRESH_MARGIN_SECONDS = 0.25
"""Added to the deadline that the reader itself keeps."""


class UnknownAddresses:
    """The queue of requests that wait for a refresh of the routing table.

    The HTTP server bounds it: a connection has one outstanding request, and connections are
    limited.
    """

    def __init__(
        self,
        routes: RoutingReader,
        cache: RouteCache,
        error_responses: ErrorResponses,
        *,
        receive: Callable[[Exchange], None],
        timeout_seconds: float,
    ) -> None:
        """`receive` takes a request whose address is known after the refresh: its route is in
        `context`.
        """
        self._routes = routes
        self._cache = cache
        self._error_responses = error_responses
        self._receive = receive
        self._timeout_seconds = timeout_seconds
        self._waiting: list[Exchange] = []
        self._refreshing: asyncio.Task[None] | None = None
        self._failure_logged = False
        """Whether an unexpected error was logged since the last successful refresh."""

    def wait(self, exchange: Exchange) -> None:
        """Answer the request after the next refresh."""
        self._waiting.append(exchange)
        if self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())

    def close(self) -> None:
        """Stop answering."""
        if self._refreshing is not None:
            self._refreshing.cancel()

    async def _refresh(self) -> None:
        """Answer waiting requests in rounds. A request that arrives during a round needs the next
        one, because a 404 must not be older than its request.
        """
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                certain = await self._refresh_routes()
                for exchange in waiting:
                    self._answer(exchange, certain=certain)
        finally:
            self._refreshing = None

    async def _refresh_routes(self) -> bool:
        """Return whether the routing table was read to its end."""
        seconds = self._timeout_seconds
        try:
            async with asyncio.timeout(seconds + _REFRESH_MARGIN_SECONDS):
                certain = await self._routes.refresh(seconds)
        except TimeoutError:
            return False
        except HeadraceError as error:
            logger.warning("routing_table_refresh_failed", error=str(error))
            return False
        except Exception as error:  # Waiting requests must be answered after any error.
            if not self._failure_logged:
                logger.exception(
                    "routing_table_refresh_failed",
                    error=f"internal error: {error!r}",
                    next_step="report this error; requests for unknown paths get a 503",
                )
            self._failure_logged = True
            return False
        self._failure_logged = False
        return certain

    def _answer(self, exchange: Exchange, *, certain: bool) -> None:
        try:
            self._route_again(exchange, certain=certain)
        except Exception as error:  # The requests behind this one must be answered too.
            logger.exception(
                "request_failed",
                error=f"internal error: {error!r}",
                next_step="report this error",
            )
            self._refuse_uncertain(exchange)

    def _route_again(self, exchange: Exchange, *, certain: bool) -> None:
        if exchange.answered:
            return
        route = self._cache.find(exchange.target, exchange.host)
        if route is not None:
            exchange.context = route
            self._receive(exchange)
        elif (reason := self._cache.host_rejection(exchange.host)) is not None and certain:
            self._error_responses.reject(exchange, None, ProblemType.FORBIDDEN, 403, reason)
        elif certain:
            self._error_responses.reject(
                exchange,
                None,
                ProblemType.UNKNOWN_ADDRESS,
                404,
                self._cache.explain_unknown(exchange.target),
            )
        else:
            self._refuse_uncertain(exchange)

    def _refuse_uncertain(self, exchange: Exchange) -> None:
        detail = (
            "this path or Host is unknown, and the routing table could not be read to its end"
            f" within {self._timeout_seconds:g} s to find out whether it is new"
        )
        self._error_responses.reject(exchange, None, ProblemType.ROUTES_UNCERTAIN, 503, detail)
