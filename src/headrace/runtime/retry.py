"""Retries an operation that a process requires, without a time limit: a restart would not help
sooner, and the reason is reported.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from headrace.domain.errors import HeadraceError

logger = structlog.get_logger(__name__)

RETRY_SECONDS: Final = 1.0

Answer = TypeVar("Answer")


async def retry_until_success(
    attempt: Callable[[], Awaitable[Answer]],
    *,
    waiting: Callable[[str], None],
    what: str = "Kafka cannot be used yet",
    retry_on: type[Exception] = HeadraceError,
) -> Answer:
    """Try once a second until `attempt` succeeds. Calls `waiting` with the reason of each failure,
    for `/readyz`. Raises exceptions other than `retry_on`.
    """
    while True:
        try:
            return await attempt()
        except retry_on as error:
            reason = f"{what}: {error}"
            waiting(reason)
            logger.warning(
                "not_ready",
                error=reason,
                exc_info=None if isinstance(error, HeadraceError) else error,
            )
            await asyncio.sleep(RETRY_SECONDS)
