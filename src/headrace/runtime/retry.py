"""Retries an operation that a process requires, without a time limit: a restart would not help
sooner, and the reason is reported.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from headrace.domain.errors import HeadraceError, LogUnavailable

logger = structlog.get_logger(__name__)

RETRY_SECONDS: Final = 1.0
HINT_SECONDS: Final = 10.0
_HINT: Final = (
    "check that Kafka runs and that --bootstrap-servers or KAFKA_BOOTSTRAP_SERVERS is its address"
)

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

    The log names the setting when Kafka has not answered for some seconds: at first it may just be
    starting.
    """
    hint_at = time.monotonic() + HINT_SECONDS
    while True:
        try:
            return await attempt()
        except retry_on as error:
            reason = f"{what}: {error}"
            waiting(reason)
            hinted = isinstance(error, LogUnavailable) and time.monotonic() >= hint_at
            logger.warning(
                "not_ready",
                error=reason,
                exc_info=None if isinstance(error, HeadraceError) else error,
                **({"next_step": _HINT} if hinted else {}),
            )
            await asyncio.sleep(RETRY_SECONDS)
