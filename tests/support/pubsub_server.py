"""A Pub/Sub server for tests: `pstest`, the fake server of Google's Go client, as a process on
loopback.
"""

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.pubsub_v1 import PublisherClient, SubscriberClient, types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

BUILD = (Path(__file__).parents[2] / ".ci/go-program", "pubsub-server")
BUILD_SECONDS = 660
STOP_SECONDS = 10
UNPROVEN = "not proven here: needs the Go toolchain, for the Pub/Sub server of the tests"
PROJECT = "project-1"
UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE = 16, 7, 14
"""Status codes of gRPC."""


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a message."""

    id: str
    deliveries: int
    acks: int
    deadlines: tuple[int, ...]
    """In seconds, as the clients have set them one after the other."""


class PubSubServer:
    """One running server."""

    def __init__(self, address: str, control: str) -> None:
        self.address = address
        """Value for `PUBSUB_EMULATOR_HOST`."""
        self._control = control
        self._channel = grpc.insecure_channel(address)
        self._publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self._channel))
        self._subscriber = SubscriberClient(
            transport=SubscriberGrpcTransport(channel=self._channel)
        )

    @property
    def env(self) -> Mapping[str, str]:
        """The environment of a process that uses this server."""
        return {"PUBSUB_EMULATOR_HOST": self.address}

    def create_topic(self, topic: str) -> None:
        """Create a topic."""
        self._publisher.create_topic(name=f"projects/{PROJECT}/topics/{topic}")

    def delete_topic(self, topic: str) -> None:
        """Delete a topic; its subscriptions stay."""
        self._publisher.delete_topic(topic=f"projects/{PROJECT}/topics/{topic}")

    def publish(self, topic: str, *data: bytes, key: str = "", **attributes: str) -> list[str]:
        """Publish a message for each of `data`; their ids."""
        messages = [
            types.PubsubMessage(data=each, ordering_key=key, attributes=attributes) for each in data
        ]
        name = f"projects/{PROJECT}/topics/{topic}"
        return list(self._publisher.publish(topic=name, messages=messages).message_ids)

    def subscription(self, subscription: str) -> types.Subscription | None:
        """A subscription; None if there is none."""
        name = f"projects/{PROJECT}/subscriptions/{subscription}"
        try:
            return self._subscriber.get_subscription(subscription=name)
        except exceptions.NotFound:
            return None

    def subscriptions(self) -> list[str]:
        """The ids of all subscriptions."""
        found = self._subscriber.list_subscriptions(project=f"projects/{PROJECT}")
        return [each.name.rpartition("/")[2] for each in found]

    def create_subscription(self, subscription: str, topic: str) -> None:
        """Create a subscription without ordering."""
        self._subscriber.create_subscription(
            name=f"projects/{PROJECT}/subscriptions/{subscription}",
            topic=f"projects/{PROJECT}/topics/{topic}",
            ack_deadline_seconds=10,
        )

    def delete_subscription(self, subscription: str) -> None:
        """Delete a subscription."""
        name = f"projects/{PROJECT}/subscriptions/{subscription}"
        self._subscriber.delete_subscription(subscription=name)

    def published(self) -> list[Published]:
        """All messages, in the order in which they were published."""
        found = self._call("messages")
        return [
            Published(each["id"], each["deliveries"], each["acks"], tuple(each["deadlines"]))
            for each in found
        ]

    def all_acknowledged(self) -> bool:
        """Whether every message is."""
        return all(each.acks for each in self.published())

    def advance(self, seconds: int) -> None:
        """Let deadlines expire as if that time had passed."""
        self._call(f"advance?seconds={seconds}", post=True)

    def refuse(self, method: str, code: int) -> None:
        """Answer all calls of a method with a status code of gRPC; 0: no longer."""
        self._call(f"refuse?method={method}&code={code}", post=True)

    def close(self) -> None:
        """Close the connection of this object."""
        self._channel.close()

    def _call(self, path: str, *, post: bool = False) -> Any:
        request = urllib.request.Request(
            f"http://{self._control}/{path}", data=b"" if post else None
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if body else None


@contextlib.contextmanager
def pubsub_server_in() -> Iterator[PubSubServer]:
    """A server for the block. The test is skipped, with the reason, where it cannot be built."""
    built = subprocess.run(
        BUILD, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
    )
    if built.returncode:
        pytest.skip(f"{UNPROVEN}: {built.stderr.strip()}")
    with subprocess.Popen(
        [built.stdout.strip()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        server = PubSubServer(process.stdout.readline().strip(), process.stdout.readline().strip())
        try:
            yield server
        finally:
            server.close()
            process.stdin.close()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
