"""Appending one record to a control topic, and waiting until it is stored."""

import asyncio

from headrace.domain.errors import HeadraceError, LogUnavailable
from headrace.domain.ports import Log
from headrace.domain.record import Record


async def append_durably(
    log: Log, topic: str, record: Record, *, seconds: float, what: str
) -> None:
    """Return when all in-sync replicas have the record; `what` is it in the message of an error.

    Raises what the log raises, and `LogUnavailable` after `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            await append_and_wait(log, topic, record)
    except TimeoutError:
        raise LogUnavailable(f"topic {topic} did not store {what} within {seconds:g} s") from None


async def append_and_wait(log: Log, topic: str, record: Record) -> None:
    """Return when all in-sync replicas have the record, however long that takes. Raises what the
    log raises.
    """
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stored(error: HeadraceError | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    log.append(topic, record, stored)
    await done
