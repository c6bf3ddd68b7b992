"""Admission that never holds the loop up: what would take long is judged in one of a few threads,
and its request waits there.

Threads cost the loop little, because what is expensive runs in processes that they wait for
(`schemas.cel_process`). The number of threads is the number of such processes at once.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from headrace_apiserver.admission.admit import Admitted
from headrace_apiserver.schemas.loop_budget import LoopBudgetExceeded, on_loop
from headrace_apiserver.statuses import too_many_requests

THREADS = 2
WAITING_MAX = 16
"""Requests whose objects take long, those in a thread included; more get 429."""
WAIT_SECONDS = 8.0
"""Less than a write has for its answer."""


class AdmissionPool:
    """The judgements of one application that are being made."""

    def __init__(
        self,
        *,
        threads: int = THREADS,
        waiting_max: int = WAITING_MAX,
        seconds: float = WAIT_SECONDS,
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="admission")
        self._waiting_max = waiting_max
        self._seconds = seconds
        self._jobs: set[Future[Admitted]] = set()

    def __len__(self) -> int:
        return len(self._jobs)

    async def run(self, validation: Callable[[], Admitted]) -> tuple[Admitted, bool]:
        """What `validation` returns or raises, and whether other things may have happened
        meanwhile.

        Raises StatusError 429 when too many wait already, or its turn does not come or does not end
        in time.
        """
        try:
            with on_loop():
                return validation(), False
        except LoopBudgetExceeded:
            pass
        if len(self._jobs) >= self._waiting_max:
            raise too_many_requests(
                f"the rules of {self._waiting_max} objects are being checked that take long; please"
                " try again later"
            )
        job = self._pool.submit(validation)
        self._jobs.add(job)
        # A job that has begun cannot be cancelled: it counts until it ends, and its client is
        # answered before.
        job.add_done_callback(self._jobs.discard)
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.wrap_future(job), True
        except TimeoutError:
            text = (
                f"the rules of the object could not be checked within {self._seconds:g} s; nothing"
                " was stored; please try again later"
            )
            raise too_many_requests(text) from None

    def stop(self) -> None:
        """Begin with none of those that wait for a thread."""
        for job in tuple(self._jobs):
            job.cancel()
