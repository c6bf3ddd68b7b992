"""A server that speaks the part of GitHub's REST API that is about webhooks, and calls them.

Statuses, messages and validation are those of the API (version 2022-11-28): 401 for a bad token,
404 for a repository that the token may not administer, 403 where a right of a fine-grained token is
missing, 422 with `errors` for an invalid webhook or one that exists, pages of 100, a secret that is
never shown, deliveries with ids of their own and a GUID of the event.
"""

import hmac
import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import urllib3

PAGE_SIZE_MAX = 100
EVENTS = frozenset(
    [
        "check_suite",
        "commit_comment",
        "create",
        "delete",
        "deployment",
        "deployment_status",
        "fork",
        "gollum",
        "issue_comment",
        "issues",
        "label",
        "member",
        "membership",
        "milestone",
        "organization",
        "org_block",
        "page_build",
        "project_card",
        "project_column",
        "project",
        "public",
        "pull_request",
        "pull_request_review",
        "pull_request_review_comment",
        "push",
        "release",
        "repository",
        "status",
        "team",
        "team_add",
        "watch",
        "ping",
    ]
)
DELIVERY_SECONDS = 10.0
AT_ONCE_MAX = 50
"""Deliveries that a test may have under way at a time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Sent:
    """One delivery."""

    id: int
    guid: str
    event: str
    body: bytes
    status: int
    redelivery: bool
    at: float


def signature(secret: str, body: bytes) -> dict[str, str]:
    """The headers that GitHub signs a request with."""
    key = secret.encode()
    return {
        "x-hub-signature": f"sha1={hmac.new(key, body, sha1).hexdigest()}",
        "x-hub-signature-256": f"sha256={hmac.new(key, body, sha256).hexdigest()}",
    }


class GitHubServer:
    """The state of the server; `url` is the base URL of its API."""

    def __init__(self, *, token: str = "ghp_right", calls: bool = False) -> None:
        """`calls` says whether the webhooks are called: at creation (ping), and by `deliver`."""
        self.token = token
        self.calls = calls
        self.scopes = {"repos/knative/docs", "orgs/knative"}
        """What the token may administer."""
        self.hooks: dict[str, dict[int, dict[str, Any]]] = {}
        """By scope and id, with the secret."""
        self.sent: dict[int, list[Sent]] = {}
        """Deliveries by hook, the newest first."""
        self.requests: list[tuple[str, str]] = []
        self.next: deque[Answer] = deque()
        """Answers that are given to the next requests, whatever they are."""
        self.unreachable = ""
        """URLs that begin like this are refused."""
        self.url = ""
        self._ids = 109_948_940
        self._lock = threading.RLock()
        self._http = urllib3.PoolManager(
            timeout=DELIVERY_SECONDS, retries=False, maxsize=AT_ONCE_MAX
        )

    def add_hook(self, scope: str, url: str, **more: Any) -> int:
        """Add a webhook as another client would."""
        with self._lock:
            self._ids += 1
            config = {"url": url, "content_type": "json", "secret": "other", "insecure_ssl": "0"}
            hook = {"id": self._ids, "active": True, "events": ["push"], "config": config, **more}
            self.hooks.setdefault(scope, {})[self._ids] = {"name": "web", **hook}
            return self._ids

    @property
    def all_hooks(self) -> list[dict[str, Any]]:
        """Those of every scope."""
        with self._lock:
            return [hook for each in self.hooks.values() for hook in each.values()]

    def count(self, method: str, part: str = "") -> int:
        """How many requests with this method had this in their path."""
        return sum(each == method and part in path for each, path in list(self.requests))

    # Deliveries.

    def deliver(
        self, event: str, payload: Mapping[str, Any], *, guid: str | None = None
    ) -> list[Sent]:
        """Report an event to all webhooks that ask for it."""
        body = json.dumps(payload).encode()
        hooks = [each for each in self.all_hooks if event in (*each["events"], "ping")]
        return [self._deliver(each, event, body, guid or str(uuid.uuid4())) for each in hooks]

    def note(self, hook: int, guid: str, status: int, at: float) -> Sent:
        """Record a delivery that was answered with this status."""
        with self._lock:
            self._ids += 1
            sent = Sent(self._ids, guid, "push", b"{}", status, redelivery=False, at=at)
            self.sent.setdefault(hook, []).insert(0, sent)
            return sent

    def _deliver(
        self,
        hook: Mapping[str, Any],
        event: str,
        body: bytes,
        guid: str,
        *,
        redelivery: bool = False,
    ) -> Sent:
        headers = {
            "content-type": "application/json",
            "user-agent": "GitHub-Hookshot/044aadd",
            "x-github-event": event,
            "x-github-delivery": guid,
            "x-github-hook-id": str(hook["id"]),
            **signature(hook["config"]["secret"], body),
        }
        try:
            answer = self._http.request("POST", hook["config"]["url"], body=body, headers=headers)
            status = answer.status
        except urllib3.exceptions.HTTPError:
            status = 502
        with self._lock:
            self._ids += 1
            sent = Sent(self._ids, guid, event, body, status, redelivery, time.time())
            self.sent.setdefault(hook["id"], []).insert(0, sent)
            return sent

    # Requests to the API.

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer one request."""
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.requests.append((method, parts.path))
        with self._lock:
            if self.next:
                return self.next.popleft()
            if headers.get("authorization") != f"Bearer {self.token}":
                return Answer(401, {"message": "Bad credentials"})
            scope, _, rest = parts.path.strip("/").partition("/hooks")
            if scope not in self.scopes:
                return Answer(404, {"message": "Not Found"})
            hooks = self.hooks.setdefault(scope, {})
            match rest.strip("/").split("/"), method:
                case [""], "GET":
                    return _page([_shown(each) for each in hooks.values()], query)
                case [""], "POST":
                    return self._create(scope, hooks, json.loads(body))
                case [id, *more], _ if id.isdecimal() and int(id) in hooks:
                    return self._one(hooks, int(id), more, method, query, body)
        return Answer(404, {"message": "Not Found"})

    def _one(
        self,
        hooks: dict[int, dict[str, Any]],
        id: int,
        more: list[str],
        method: str,
        query: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        match more, method:
            case [], "GET":
                return Answer(200, _shown(hooks[id]))
            case [], "PATCH":
                wanted = json.loads(body)
                if invalid := self._invalid(wanted):
                    return invalid
                hooks[id].update(wanted)
                return Answer(200, _shown(hooks[id]))
            case [], "DELETE":
                del hooks[id]
                return Answer(204)
            case ["deliveries"], "GET":
                return self._deliveries(id, query)
            case ["deliveries", delivery, "attempts"], "POST":
                return self._redeliver(hooks[id], int(delivery))
        return Answer(404, {"message": "Not Found"})

    def _create(
        self, scope: str, hooks: dict[int, dict[str, Any]], wanted: dict[str, Any]
    ) -> Answer:
        if invalid := self._invalid(wanted):
            return invalid
        if any(each["config"]["url"] == wanted["config"]["url"] for each in hooks.values()):
            kind = "repository" if scope.startswith("repos/") else "organization"
            return _validation(f"Hook already exists on this {kind}")
        self._ids += 1
        hook = hooks[self._ids] = {"id": self._ids, "type": "Repository", **wanted}
        if self.calls:
            ping = {"zen": "Keep it logically awesome.", "hook_id": hook["id"], "hook": {}}
            threading.Thread(
                target=self._deliver,
                args=(hook, "ping", json.dumps(ping).encode(), str(uuid.uuid4())),
                daemon=True,
            ).start()
        return Answer(201, _shown(hook))

    def _invalid(self, wanted: Mapping[str, Any]) -> Answer | None:
        url = wanted["config"]["url"]
        if self.unreachable and url.startswith(self.unreachable):
            host = urlsplit(url).hostname
            return _validation(
                f"url is not supported because it isn't reachable over the public Internet ({host})"
            )
        if unknown := set(wanted["events"]) - EVENTS:
            return _validation(f"Events {', '.join(sorted(unknown))} is not allowed")
        return None

    def _deliveries(self, id: int, query: Mapping[str, str]) -> Answer:
        size, start = int(query.get("per_page", 30)), int(query.get("cursor", 0))
        every = self.sent.get(id, [])
        shown = [
            {
                "id": each.id,
                "guid": each.guid,
                "delivered_at": datetime.fromtimestamp(each.at, UTC).isoformat(),
                "redelivery": each.redelivery,
                "status": "OK" if each.status < 300 else "Invalid HTTP Response",
                "status_code": each.status,
                "event": each.event,
                "action": None,
            }
            for each in every[start : start + size]
        ]
        more = start + size < len(every)
        link = f'<{self.url}?per_page={size}&cursor={start + size}>; rel="next"' if more else ""
        return Answer(200, shown, {"link": link} if link else {})

    def _redeliver(self, hook: Mapping[str, Any], delivery: int) -> Answer:
        found = next((each for each in self.sent.get(hook["id"], []) if each.id == delivery), None)
        if found is None:
            return Answer(404, {"message": "Not Found"})
        if self.calls:
            threading.Thread(
                target=self._deliver,
                args=(hook, found.event, found.body, found.guid),
                kwargs={"redelivery": True},
                daemon=True,
            ).start()
        return Answer(202, {})


def _shown(hook: Mapping[str, Any]) -> dict[str, Any]:
    return {**hook, "config": {**hook["config"], "secret": "********"}}


def _page(every: list[dict[str, Any]], query: Mapping[str, str]) -> Answer:
    size = min(int(query.get("per_page", 30)), PAGE_SIZE_MAX)
    start = (int(query.get("page", 1)) - 1) * size
    return Answer(200, every[start : start + size])


def _validation(message: str) -> Answer:
    errors = [{"resource": "Hook", "code": "custom", "message": message}]
    return Answer(422, {"message": "Validation Failed", "errors": errors})


@contextmanager
def github_server(**options: Any) -> Iterator[GitHubServer]:
    """Run a server on a port of its own."""
    state = GitHubServer(**options)

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            length = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found = state.answer(self.command, self.path, headers, self.rfile.read(length))
            content = b"" if found.body is None else json.dumps(found.body).encode()
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            if found.status != 204:
                self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _handle

        def log_message(self, format: str, *args: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        state._http.clear()
