"""The target behind a URL that no HTTP client can call, such as `bad://uri`: each post fails at
once, in a way that is never retried.
"""

import asyncio
from collections.abc import Callable

from headrace.domain.delivery import Failure, Outcome


class UnsupportedTarget:
    """`headrace.domain.ports.Target` without a connection."""

    denied = ""
    """No address is ever looked up, so the egress policy is not asked."""

    def __init__(self, why: str) -> None:
        self._outcome = Outcome(failure=Failure.UNSUPPORTED_SCHEME, detail=why)

    def post(
        self,
        headers: bytes,
        body: bytes,
        *,
        timeout_seconds: float,
        answered: Callable[[Outcome], None],
    ) -> asyncio.Handle:
        """Report the failure in the next turn of the loop, like a real attempt; the handle is the
        attempt and can be cancelled.
        """
        return asyncio.get_running_loop().call_soon(answered, self._outcome)

    def close(self) -> None:
        """Nothing is open."""
