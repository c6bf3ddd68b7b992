"""Webhooks of any provider: each POST to the address of the source becomes an event.

Every process receives. A request is accepted once the sink has taken its event; a provider that
gets another answer sends it again. The body is the data, unchanged. A request that is a CloudEvent
already keeps its attributes.
"""

import asyncio
from collections.abc import Mapping
from typing import ClassVar, Final

from pydantic import Field, field_validator, model_validator

from headrace.cloudevents import UnsupportedContent, read_http
from headrace.domain.event import Event, InvalidEvent
from headrace_sources.adapters.webhook_attributes import (
    DEFAULT_TYPE,
    AttributeMapping,
    attributes_of,
    check_names,
    content_type_of,
    read_document,
)
from headrace_sources.adapters.webhook_replays import Replay, ReplayWindow
from headrace_sources.adapters.webhook_signatures import (
    InvalidSecret,
    Scheme,
    SignatureRefused,
    check_secret,
    verify,
)
from headrace_sources.source import (
    Emit,
    NotDelivered,
    SecretKeyRef,
    SourceConfig,
    SourceContext,
    SourceFault,
    WebhookRequest,
    WebhookResponse,
    new_event,
)

SECRETS_PROVIDED: Final = "SecretsProvided"
ADDRESS_FIELD: Final = "address"
RETRY_SECONDS: Final = 10
_ACCEPTED: Final = WebhookResponse(202, "accepted\n")
_METHODS: Final = ("POST", "PUT")
_ORIGIN: Final = "webhook-request-origin"
_ORIGIN_MAX: Final = 253


class WebhookConfig(SourceConfig):
    """Fields of the resource. `source` is the attribute of events whose request has none."""

    source: str
    scheme: Scheme = Scheme.NONE
    secret: SecretKeyRef | None = None
    tolerance_seconds: float = Field(300.0, gt=0, le=86_400)
    """How far the time in a signature may be from now."""
    attributes: Mapping[str, AttributeMapping] = Field(default_factory=dict)

    @field_validator("attributes")
    @classmethod
    def _check_names(cls, found: Mapping[str, AttributeMapping]) -> Mapping[str, AttributeMapping]:
        return check_names(found)

    @model_validator(mode="after")
    def _check_secret(self) -> "WebhookConfig":
        if (self.scheme is Scheme.NONE) != (self.secret is None):
            raise ValueError("a secret is required with every scheme but None")
        return self


class WebhookSource:
    """See the module."""

    Config: ClassVar[type[SourceConfig]] = WebhookConfig

    def __init__(self, config: WebhookConfig, context: SourceContext) -> None:
        self._config, self._context = config, context

    async def run(self, emit: Emit) -> None:
        """Receive until cancelled."""
        key = await self._key()
        self._context.report(SECRETS_PROVIDED, True)
        receiver = _Receiver(self._config, self._context, key, emit)
        with self._context.receive(receiver.handle) as url:
            self._context.publish(**{ADDRESS_FIELD: {"url": url}})
            await asyncio.Event().wait()

    async def _key(self) -> bytes:
        reference = self._config.secret
        if reference is None:
            return b""
        try:
            return check_secret(self._config.scheme, await self._context.secret(reference))
        except SourceFault as fault:
            raise SourceFault(fault.reason, str(fault), condition=SECRETS_PROVIDED) from None
        except InvalidSecret as error:
            raise SourceFault(
                "SecretInvalid",
                f"key {reference.key} of Secret {self._context.namespace}/{reference.name}:"
                f" {error}; store the secret that the provider shows",
                condition=SECRETS_PROVIDED,
            ) from None


class _Receiver:
    """Answers requests."""

    def __init__(
        self, config: WebhookConfig, context: SourceContext, key: bytes, emit: Emit
    ) -> None:
        self._config, self._context, self._key, self._emit = config, context, key, emit
        # A signature is valid from its time less the tolerance to its time plus the tolerance.
        self._replays = ReplayWindow(2 * config.tolerance_seconds, context.clock)

    async def handle(self, request: WebhookRequest) -> WebhookResponse:
        """Send the event; 202 once the sink has taken it."""
        if request.method == "OPTIONS":
            return _allow(request.headers)
        if request.method not in _METHODS:
            return WebhookResponse(405, "send a POST\n", (("Allow", "POST, PUT, OPTIONS"),))
        try:
            signed = verify(
                self._config.scheme,
                self._key,
                request.headers,
                request.body,
                now=self._context.clock.now(),
                tolerance_seconds=self._config.tolerance_seconds,
            )
        except SignatureRefused as error:
            return WebhookResponse(401, f"{error}\n")
        document = read_document(request.headers, request.body)
        if self._config.scheme is Scheme.SLACK and (challenge := _slack_challenge(document)):
            return WebhookResponse(200, challenge)
        match self._replays.begin(signed.replay_key):
            case Replay.TAKEN:
                return _ACCEPTED
            case Replay.IN_FLIGHT:
                return _not_now(409, "the same request is being handled")
        taken = False
        try:
            await self._emit(self._event(request, document))
            taken = True
        except UnsupportedContent as error:
            return WebhookResponse(415, f"{error}\n")
        except InvalidEvent as error:
            return WebhookResponse(400, f"{error}\n")
        except NotDelivered as error:
            return _not_now(503, f"the sink has not accepted the event: {error}")
        finally:
            self._replays.end(signed.replay_key, taken=taken)
        return _ACCEPTED

    def _event(self, request: WebhookRequest, document: object) -> Event:
        headers = request.headers
        if _is_cloudevent(headers):
            event = read_http(headers, request.body)
            mapped = attributes_of(self._config.attributes, Scheme.NONE, headers, document)
            return Event({**event.attributes, **mapped}, event.data)
        found = attributes_of(self._config.attributes, self._config.scheme, headers, document)
        type, source = found.pop("type", DEFAULT_TYPE), found.pop("source", self._config.source)
        id = found.pop("id", None)
        return new_event(
            str(type),
            str(source),
            request.body,
            id=None if id is None else str(id),
            content_type=content_type_of(headers, document),
            **found,
        )


def _is_cloudevent(headers: Mapping[str, str]) -> bool:
    is_structured = headers.get("content-type", "").lower().startswith("application/cloudevents")
    return is_structured or "ce-specversion" in headers


def _slack_challenge(document: object) -> str:
    """What Slack wants back when it checks the address; empty if it does not."""
    if isinstance(document, dict) and document.get("type") == "url_verification":
        challenge = document.get("challenge")
        return challenge if isinstance(challenge, str) else ""
    return ""


def _allow(headers: Mapping[str, str]) -> WebhookResponse:
    """The handshake of the CloudEvents webhook specification (section 4), which Azure Event Grid
    uses.
    """
    allow = ("Allow", "POST, PUT, OPTIONS")
    origin = headers.get(_ORIGIN, "")
    if not origin or len(origin) > _ORIGIN_MAX or not origin.isprintable():
        return WebhookResponse(200, "", (allow,))
    granted = [("WebHook-Allowed-Origin", origin)]
    if "webhook-request-rate" in headers:
        granted.append(("WebHook-Allowed-Rate", "*"))
    return WebhookResponse(200, "", (allow, *granted))


def _not_now(status: int, text: str) -> WebhookResponse:
    return WebhookResponse(status, f"{text}\n", (("Retry-After", str(RETRY_SECONDS)),))
