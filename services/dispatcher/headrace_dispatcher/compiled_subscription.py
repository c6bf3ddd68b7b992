"""A routing record prepared for use: everything about a subscription that can change while its
consumer stays in its group.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from headrace.codec import delivery_state, http
from headrace.domain import filters
from headrace.domain.cesql import Problem
from headrace.domain.filters import Filter
from headrace.domain.ports import Sender, Target
from headrace.domain.record import StoredRecord
from headrace.domain.routing import Destination, Format, Reply, Subscription
from headrace.domain.target_url import UnsupportedScheme
from headrace_dispatcher.unsupported_target import UnsupportedTarget

_JSON: Final = Format.JSON
"""An alias: reading a member through its enum class takes ten times as long, and this one is read
for each event.
"""


@dataclass(frozen=True, slots=True)
class ReplyLimit:
    """How large a reply may be, by its destination."""

    event_bytes: int
    """Of the event, headers and data, as the ingress counts them."""

    @property
    def body_bytes(self) -> int:
        """Of the response's body: the JSON format needs more bytes for the same event (base64: a
        third).
        """
        return self.event_bytes + self.event_bytes // 3 + 65_536


@dataclass(slots=True, kw_only=True)
class CompiledSubscription:
    """What applies to the next attempt. One value at a time: an event is handled under one
    generation, whole.
    """

    subscription: Subscription
    filter: Filter
    target: Target
    reply_target: Target | None
    sink_target: Target | None
    """None without a sink, and for one that can never be called: the dead letters stay in their
    topic.
    """
    subscriber_headers: bytes
    """Header lines of every request to the subscriber, beside the event's own."""
    no_reply_headers: bytes
    """The same for replies and dead letters, which ask for no reply."""

    def request(self, record: StoredRecord, origin: str = "") -> tuple[bytes, bytes]:
        """Header lines and body of the request that delivers this record, in the content mode asked
        for.

        Its headers have the position of the event in the Broker's topic: `origin` when the record
        is from a retry topic, else where it was read.
        """
        position = (
            delivery_state.origin_position(origin) if origin else (record.partition, record.offset)
        )
        if self.subscription.format is _JSON:
            lines, body = http.write_structured(record.headers, record.value, position)
            return self.subscriber_headers + lines, body
        event = record.header_lines
        if event is None:
            event = http.write_binary(record.headers)
        lines = self.subscriber_headers + event
        return lines + http.write_position(*position) if position else lines, record.value or b""

    def dead_letter_request(self, record: StoredRecord) -> tuple[bytes, bytes]:
        """Header lines and body of the request that delivers this dead letter to its sink."""
        position = delivery_state.read_position(record.headers)
        lines = self.no_reply_headers + http.write_binary(record.headers)
        return lines + http.write_position(*position) if position else lines, record.value or b""

    @property
    def denied(self) -> str:
        """Which of the destinations the egress policy denies and why, empty when none."""
        denied = ""
        for name, target in (
            ("subscriber", self.target),
            ("reply", self.reply_target),
            ("dead letter sink", self.sink_target),
        ):
            if target is not None and target.denied:
                denied += f"{'; ' if denied else ''}{name}: {target.denied}"
        return denied

    def close(self) -> None:
        """Close the connections; requests in flight still end."""
        for target in (self.target, self.reply_target, self.sink_target):
            if target is not None:
                target.close()


def compile_subscription(
    subscription: Subscription,
    sender: Sender,
    *,
    connections_max: int,
    filter_failed: Callable[[Problem], None],
    reply_limit: Callable[[Reply], ReplyLimit],
) -> CompiledSubscription:
    """Prepare a routing record. Raises ValueError, naming the field, for one that this version
    cannot serve.
    """

    def open_target(
        url: str, ca_certs: str | None = None, reply_bytes_max: Callable[[], int] | None = None
    ) -> Target:
        try:
            return sender.target(
                url,
                connections_max=connections_max,
                ca_certs=ca_certs,
                reply_bytes_max=reply_bytes_max,
            )
        except UnsupportedScheme as error:
            return UnsupportedTarget(str(error))

    def open_sink(destination: Destination) -> Target | None:
        target = open_target(destination.url, destination.ca_certs)
        return None if isinstance(target, UnsupportedTarget) else target

    namespace = f"Kn-Namespace: {subscription.namespace}\r\n".encode()
    reply, sink = subscription.reply, subscription.dead_letter_sink
    return CompiledSubscription(
        subscription=subscription,
        filter=filters.compile(subscription.filters, on_error=filter_failed),
        target=open_target(
            subscription.subscriber.url,
            subscription.subscriber.ca_certs,
            (lambda: reply_limit(reply).body_bytes) if reply else None,
        ),
        reply_target=open_target(reply.url, reply.ca_certs) if reply and reply.url else None,
        sink_target=open_sink(sink) if sink else None,
        subscriber_headers=b"Prefer: reply\r\n" + namespace,
        no_reply_headers=namespace,
    )
