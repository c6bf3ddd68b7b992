"""Reads one document over HTTP, for the control plane: one GET with `request.py`."""

from typing import Final

from headrace.adapters.http.client_options import AddressPolicy
from headrace.adapters.http.client_resolver import Lookup, resolve
from headrace.adapters.http.request import HttpRequester

_ACCEPT: Final = {"accept": "application/schema+json, application/json;q=0.9, */*;q=0.1"}


class HttpFetcher:
    """Reads documents, a few at a time."""

    def __init__(
        self,
        *,
        address_denied: AddressPolicy,
        seconds: float = 10.0,
        bytes_max: int,
        lookup: Lookup = resolve,
    ) -> None:
        """`seconds` is the total time for one document, `bytes_max` its size; `lookup` replaces the
        system resolver.
        """
        self._requester = HttpRequester(
            address_denied=address_denied, seconds=seconds, bytes_max=bytes_max, lookup=lookup
        )

    async def fetch(self, url: str) -> bytes:
        """Return the document at an http or https URL.

        Raises Permanent for a URL that cannot be used, and Temporary if the document could not be
        read, with the reason.
        """
        answer = await self._requester.request("GET", url, _ACCEPT, check_status=_check)
        return answer.body


def _check(status: int) -> str:
    """Only a complete document with status 200 is one."""
    if 300 <= status < 400:
        return f"status {status}; redirects are not followed"
    return "" if status == 200 else f"status {status}"
