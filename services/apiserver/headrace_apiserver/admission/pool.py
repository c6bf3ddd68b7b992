"""Admission that does not block the event loop: expensive objects are validated in a few threads.

The threads need little of the interpreter, because they wait for processes that do the expensive
part (`schemas.cel_process`). The number of threads is the number of such processes.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from headrace_apiserver.admission.admit import Admitted
from headrace_apiserver.schemas.loop_budget import LoopBudgetExceeded, on_loop
from headrace_apiserver.statuses import too_many_requests

THREADS = 2
WAITING_MAX = 16
"""Requests with expensive objects, including those in a thread; more get 429."""
WAIT_SECONDS = 8.0
"""Less than the deadline of a write."""


class AdmissionPool:
    """Runs the admissions of one application."""

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
        """The result of `validation`, and whether other tasks may have run in between. Raises what
        `validation` raises.

        Raises StatusError 429 if too many requests wait already, or if it does not finish in time.
        """
        try:
            with on_loop():
                return validation(), False
        except LoopBudgetExceeded:
            pass
        if len(self._jobs) >= self._waiting_max:
            raise too_many_requests(
                f"{self._waiting_max} objects with expensive rules are being checked; please try"
                " again later"
            )
        job = self._pool.submit(validation)
        self._jobs.add(job)
        # A job that has started cannot be cancelled: it counts until it ends, also after the
        # response to its client.
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
        """Cancel the jobs that have not started."""
        for job in tuple(self._jobs):
            job.cancel()
