"""The part of GitHub's REST API that manages the webhook of a repository or an organization.

Each request has a deadline; answers that limit the rate are respected. The access token is in no
message.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from urllib.parse import quote

from headrace.adapters.http.client_options import AddressPolicy
from headrace.adapters.http.request import HttpAnswer, HttpRequester
from headrace.domain.errors import HeadraceError
from headrace.domain.ports import Clock
from headrace_sources.adapters.github_faults import UNAVAILABLE, GitHubFault, fault_of

T = TypeVar("T")
VERSION: Final = "2022-11-28"
REQUEST_SECONDS: Final = 10.0
ANSWER_BYTES_MAX: Final = 4 * 1_048_576
PAGES_MAX: Final = 10
PAGE_SIZE: Final = 100


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook as GitHub has it. Its secret is never shown."""

    id: int
    url: str
    events: tuple[str, ...]
    active: bool
    content_type: str

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Hook":
        """Read one."""
        config = found.get("config") or {}
        return cls(
            int(found["id"]),
            str(config.get("url") or ""),
            tuple(sorted(map(str, found.get("events") or ()))),
            found.get("active") is not False,
            str(config.get("content_type") or ""),
        )


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request that GitHub has sent, or tried to send."""

    id: int
    guid: str
    """Of the event: redeliveries have the same one."""
    delivered_at: float
    """Unix time."""
    succeeded: bool

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Delivery":
        """Read one."""
        return cls(
            int(found["id"]),
            str(found["guid"]),
            datetime.fromisoformat(str(found["delivered_at"])).timestamp(),
            200 <= int(found.get("status_code") or 0) < 300,
        )


class GitHubHooks:
    """The webhooks of one repository or organization."""

    def __init__(
        self,
        *,
        api_url: str,
        owner_and_repository: str,
        token: str,
        address_denied: AddressPolicy,
        clock: Clock,
    ) -> None:
        names = owner_and_repository.strip("/").split("/")
        scope = "repos" if len(names) > 1 else "orgs"
        path = "/".join(quote(each, safe="") for each in names)
        self.url = f"{api_url.rstrip('/')}/{scope}/{path}/hooks"
        """Of the hooks in the API."""
        self._what = f"{'repository' if scope == 'repos' else 'organization'} {'/'.join(names)}"
        self._right = (
            "Webhooks: read and write (admin:repo_hook of a classic token)"
            if scope == "repos"
            else "organization Webhooks: read and write (admin:org_hook of a classic token)"
        )
        self._clock = clock
        self._headers = {
            "accept": "application/vnd.github+json",
            "authorization": f"Bearer {token}",
            "content-type": "application/json",
            "x-github-api-version": VERSION,
        }
        self._http = HttpRequester(
            address_denied=address_denied, seconds=REQUEST_SECONDS, bytes_max=ANSWER_BYTES_MAX
        )

    async def get(self, id: str) -> Hook | None:
        """Return a hook, None if there is none. Raises `GitHubFault`, as all of these."""
        try:
            return _read(await self._send("GET", self._hook(id)), Hook.of)
        except GitHubFault as fault:
            if fault.status == 404:
                return None
            raise

    async def all(self) -> list[Hook]:
        """Return all hooks, at most 1,000."""
        found: list[Hook] = []
        for page in range(1, PAGES_MAX + 1):
            answer = await self._send("GET", f"{self.url}?per_page={PAGE_SIZE}&page={page}")
            hooks = _read(answer, _list_of(Hook.of))
            found += hooks
            if len(hooks) < PAGE_SIZE:
                break
        return found

    async def create(self, url: str, secret: str, events: Sequence[str]) -> Hook:
        """Create a hook."""
        wanted = {"name": "web", **_wanted(url, secret, events)}
        return _read(await self._send("POST", self.url, wanted), Hook.of)

    async def update(self, id: int, url: str, secret: str, events: Sequence[str]) -> Hook:
        """Change everything of a hook."""
        answer = await self._send("PATCH", self._hook(str(id)), _wanted(url, secret, events))
        return _read(answer, Hook.of)

    async def delete(self, address: str) -> None:
        """Remove a hook by its URL in the API. One that is not there is removed."""
        try:
            await self._send("DELETE", address)
        except GitHubFault as fault:
            if fault.status != 404:
                raise

    async def deliveries(self, id: int, since: float) -> list[Delivery]:
        """The deliveries of a hook since this Unix time, newest first, at most 1,000."""
        found: list[Delivery] = []
        url = f"{self._hook(str(id))}/deliveries?per_page={PAGE_SIZE}"
        for _ in range(PAGES_MAX):
            answer = await self._send("GET", url)
            page = _read(answer, _list_of(Delivery.of))
            found += [each for each in page if each.delivered_at >= since]
            cursor = _next_cursor(answer.headers.get("link", ""))
            if not page or not cursor or page[-1].delivered_at < since:
                break
            # The cursor, not the URL of the header: the token is sent to the API's own host only.
            url = f"{self._hook(str(id))}/deliveries?per_page={PAGE_SIZE}&cursor={cursor}"
        return found

    async def redeliver(self, id: int, delivery: int) -> None:
        """Let GitHub send a request again."""
        await self._send("POST", f"{self._hook(str(id))}/deliveries/{delivery}/attempts")

    def _hook(self, id: str) -> str:
        return f"{self.url}/{quote(id, safe='')}"

    async def _send(self, method: str, url: str, body: object = None) -> HttpAnswer:
        content = None if body is None else json.dumps(body).encode()
        try:
            answer = await self._http.request(method, url, self._headers, content)
        except HeadraceError as error:
            raise GitHubFault(
                UNAVAILABLE, f"GitHub's API at {self.url} does not answer: {error}"
            ) from None
        if not 200 <= answer.status < 300:
            raise fault_of(answer, self._what, self._right, self._clock.now())
        return answer


def _read(answer: HttpAnswer, read: Callable[[Any], T]) -> T:
    try:
        return read(json.loads(answer.body))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise GitHubFault(
            UNAVAILABLE,
            "the answer is not one of GitHub's API; check spec.githubAPIURL",
            status=answer.status,
        ) from None


def _list_of(read: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    return lambda found: [read(each) for each in found]


def _wanted(url: str, secret: str, events: Sequence[str]) -> dict[str, Any]:
    return {
        "active": True,
        "events": list(events),
        "config": {"url": url, "content_type": "json", "secret": secret, "insecure_ssl": "0"},
    }


def _next_cursor(link: str) -> str:
    """The cursor of the next page in a Link header; empty if there is none."""
    for part in link.split(","):
        if 'rel="next"' in part and "cursor=" in part:
            cursor = part.partition("cursor=")[2]
            return cursor.partition(">")[0].partition("&")[0]
    return ""
