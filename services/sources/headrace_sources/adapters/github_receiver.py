"""Answers the requests of GitHub, with the statuses of Knative's adapter (eventing-github)."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from headrace.domain.event import InvalidEvent
from headrace.domain.ports import Clock
from headrace_sources.adapters.github_events import Naming, UnknownEventType, event_of
from headrace_sources.adapters.webhook_signatures import SignatureRefused, verify_github
from headrace_sources.source import Emit, NotDelivered, WebhookRequest, WebhookResponse


class GitHubReceiver:
    """See the module."""

    def __init__(
        self, secret: bytes, emit: Emit, *, naming: Naming, origin: str, clock: Clock
    ) -> None:
        """`origin` is the URL of the repository or organization for people."""
        self._secret, self._emit = secret, emit
        self._naming, self._origin, self._clock = naming, origin, clock

    async def handle(self, request: WebhookRequest) -> WebhookResponse:
        """Send the event; 202 once the sink has taken it."""
        if request.method != "POST":
            return WebhookResponse(405, "send a POST\n", (("Allow", "POST"),))
        headers = request.headers
        name, delivery = headers.get("x-github-event"), headers.get("x-github-delivery")
        if not name or not delivery:
            return WebhookResponse(400, "X-GitHub-Event and X-GitHub-Delivery are required\n")
        try:
            verify_github(self._secret, headers, request.body)
            payload = _payload(request.body)
            event = event_of(
                name,
                delivery,
                payload,
                request.body,
                naming=self._naming,
                origin=self._origin,
                now=datetime.fromtimestamp(self._clock.now(), UTC).isoformat(),
            )
            await self._emit(event)
        except UnknownEventType:
            return WebhookResponse(404, f"events of the type {name[:100]} are not sent on\n")
        except (SignatureRefused, InvalidEvent, ValueError) as error:
            return WebhookResponse(400, f"{error}\n")
        except NotDelivered as error:
            # GitHub does not look at Retry-After; the request is sent again later.
            return WebhookResponse(400, f"the sink has not accepted the event: {error}\n")
        return WebhookResponse(202, "accepted")


def _payload(body: bytes) -> Mapping[str, Any]:
    """Raises ValueError."""
    try:
        found = json.loads(body)
    except ValueError:
        raise ValueError("the body is not JSON; the webhook needs the content type json") from None
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("the body is not a JSON object")
    return found
