"""The ledger run for sources: what an outside system still has, or was informed of as taken,
reaches a subscriber, although the sources service and the ingress are killed again and again.

The outside systems are a Kafka topic, an SQS queue, a topic of Google Cloud Pub/Sub (where its
server can be built), a sender of webhooks that repeats what was not accepted, and the clock.
"""

import base64
import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support.aws_server import ANY_KEY, AwsServer
from tests.support.headrace_under_test import HeadraceUnderTest, headrace_in, lasting_port
from tests.support.manifests import broker, trigger
from tests.support.pubsub_server import PROJECT, PubSubServer, pubsub_server_in
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

NAMESPACE = "outside"
SECONDS = 30.0
SEED = 20_261
FAULT_SECONDS = 3.0
DRAIN_SECONDS = 90.0
SILENCE_SECONDS = 30.0
"""At most so long no process has the lease of the timer, over the whole run: a session and a
rebalance for each kill of its holder.
"""
pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(400)]


@dataclass
class Outside:
    """One outside system: what it has handed over, or was informed of as taken."""

    name: str
    send: Callable[[str], bool]
    """Hand one event over; whether the outside system may forget it."""
    every_seconds: float
    taken: list[str] = field(default_factory=list)

    def run(self, stopping: threading.Event) -> None:
        """Send until stopped; what was not accepted is sent again, as the outside system does."""
        number = 0
        while not stopping.wait(self.every_seconds):
            body = f"{self.name}-{number}"
            while not self.send(body):
                if stopping.wait(0.1):
                    return
            self.taken.append(body)
            number += 1


class SourceRun:
    """The installation, the outside systems and the faults."""

    def __init__(
        self, headrace: HeadraceUnderTest, aws: AwsServer, pubsub: PubSubServer | None
    ) -> None:
        self.headrace = headrace
        self.receivers = {f"sources-{number}": lasting_port() for number in range(2)}
        self.queue = aws.queue("outside")
        self._aws = aws
        self._pubsub = pubsub
        self._http = urllib3.PoolManager(timeout=urllib3.Timeout(40.0), retries=False, maxsize=4)
        servers = headrace.log.bootstrap_servers
        self._producer = Producer({"bootstrap.servers": servers, "acks": -1, "log_level": 0})
        self.outsides = [
            Outside("kafka", self._produce, 0.01),
            Outside("sqs", self._queue_up, 0.05),
            Outside("webhook", self._post, 0.03),
        ]
        if pubsub is not None:
            pubsub.create_topic("outside")
            self.outsides.append(Outside("pubsub", self._publish, 0.05))

    def start(self) -> None:
        """Start two processes of the service, and establish the sources."""
        for name, port in self.receivers.items():
            options = ["--port", str(port), "--instance", name, *self.headrace.options_of_sources()]
            self.headrace.run_with(name, options)
        for name in self.receivers:
            self.headrace.wait_until_ready(name)
        admin = AdminClient({"bootstrap.servers": self.headrace.log.bootstrap_servers})
        for future in admin.create_topics([NewTopic("outside", 4, 1)]).values():
            future.result(20.0)
        for name in ("kafka", "sqs", "webhook", "ping", "pubsub"):
            self.headrace.sinks.script(name, Script(record=True))
        for name in ("kafka", "sqs", "webhook", "ping", "pubsub"):
            its = broker(NAMESPACE, name)
            if name in ("sqs", "webhook", "pubsub"):
                # Its data is looked at, so that these events go through the ingress.
                its["metadata"]["annotations"]["headrace.dev/schema-validation"] = "warn"
            self.headrace.establish(its)
            url = self.headrace.sinks.url(name)
            self.headrace.establish(trigger(NAMESPACE, name, url, broker=name))
        data = {
            name: base64.b64encode(value.encode()).decode()
            for name, value in (("aws.accessKey", ANY_KEY.id), ("aws.secretKey", ANY_KEY.secret))
        }
        self.headrace.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "aws", "namespace": NAMESPACE},
                "data": data,
            }
        )
        self.headrace.establish(*self._sources())

    def _sources(self) -> list[dict[str, Any]]:
        def source(kind: str, version: str, name: str, **spec: Any) -> dict[str, Any]:
            sink = {
                "ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": name}
            }
            return {
                "apiVersion": f"{version}",
                "kind": kind,
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {"sink": sink, **spec},
            }

        queue = {
            "arn": self.queue.arn,
            "region": "eu-north-1",
            "maxMessagesPerPoll": 10,
            "greedy": True,
            "visibilityTimeout": 5,
            "overrideEndpoint": True,
            "uriEndpointOverride": self._aws.url,
        }
        knative = "sources.knative.dev"
        found = [
            source(
                "KafkaSource",
                f"{knative}/v1beta1",
                "kafka",
                bootstrapServers=[self.headrace.log.bootstrap_servers],
                topics=["outside"],
                consumerGroup="outside-readers",
                initialOffset="earliest",
                consumers=2,
            ),
            source(
                "IntegrationSource",
                f"{knative}/v1alpha1",
                "sqs",
                aws={"sqs": queue, "auth": {"secret": {"ref": {"name": "aws"}}}},
            ),
            source("WebhookSource", "sources.headrace.dev/v1alpha1", "webhook"),
            source("PingSource", f"{knative}/v1", "ping", schedule="* * * * * *"),
        ]
        if self._pubsub is not None:
            topic = {"topic": "outside", "project": PROJECT, "ackDeadline": "10s"}
            version = "events.cloud.google.com/v1"
            found.append(source("CloudPubSubSource", version, "pubsub", **topic))
        return found

    def _produce(self, body: str) -> bool:
        failed: list[object] = []
        self._producer.produce(
            "outside", body, key=body[-1], on_delivery=lambda error, _: failed.append(error)
        )
        self._producer.flush(10.0)
        return failed == [None]

    def _queue_up(self, body: str) -> bool:
        self.queue.send(body)
        return True

    def _publish(self, body: str) -> bool:
        assert self._pubsub is not None
        self._pubsub.publish("outside", body.encode(), key=body[-1])
        return True

    def _post(self, body: str) -> bool:
        for port in self.receivers.values():
            try:
                url = f"http://127.0.0.1:{port}/{NAMESPACE}/webhook"
                answer = self._http.request("POST", url, body=body.encode())
            except urllib3.exceptions.HTTPError:
                continue
            if 200 <= answer.status < 300:
                return True
        return False

    def kill_and_restart(self, choice: random.Random) -> str:
        """Kill one process, and start it again a second later."""
        name = choice.choice([*self.receivers, "ingress"])
        self.headrace.services[name].kill()
        time.sleep(1.0)
        self.headrace.run(name)
        return name

    def bodies(self, name: str) -> list[str]:
        """The bodies of what a subscriber has got."""
        found = [request.body for request in self.headrace.sinks.requests(name)]
        if name == "pubsub":
            found = [base64.b64decode(json.loads(body)["message"]["data"]) for body in found]
        return [body.decode() for body in found]


@pytest.fixture
def pubsub() -> Iterator[PubSubServer | None]:
    """A server; None, with the reason in the output, where it cannot be built."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(pubsub_server_in())
        except pytest.skip.Exception as error:
            print(error)
            server = None
        yield server


@pytest.fixture
def run(tmp_path: Path, pubsub: PubSubServer | None) -> Iterator[SourceRun]:
    """A started run."""
    aws = AwsServer(tmp_path)
    aws.start()
    try:
        with headrace_in(tmp_path, env=pubsub.env if pubsub is not None else None) as headrace:
            started = SourceRun(headrace, aws, pubsub)
            started.start()
            yield started
    finally:
        aws.stop()


@pytest.mark.clause("O2")
def test_nothing_that_an_outside_system_has_handed_over_is_lost(run: SourceRun) -> None:
    """And no time of the schedule comes twice, unless the process was killed in between: then with
    the same id.
    """
    choice, stopping = random.Random(SEED), threading.Event()
    print(f"seed {SEED}")
    threads = [threading.Thread(target=each.run, args=(stopping,)) for each in run.outsides]
    began = time.time()
    for thread in threads:
        thread.start()
    kills: Counter[str] = Counter()
    while time.time() < began + SECONDS:
        time.sleep(FAULT_SECONDS)
        kills[run.kill_and_restart(choice)] += 1
    stopping.set()
    for thread in threads:
        thread.join(60.0)
        assert not thread.is_alive()
    ended = time.time()
    for name in (*run.receivers, "ingress"):
        run.headrace.wait_until_ready(name)
    lost: dict[str, set[str]] = {}

    def all_arrived() -> bool:
        lost.update(
            {each.name: set(each.taken) - set(run.bodies(each.name)) for each in run.outsides}
        )
        return not any(lost.values())

    try:
        wait_until(all_arrived, DRAIN_SECONDS, "everything has arrived", every=0.5)
    except AssertionError:
        pytest.fail(f"lost: { {name: sorted(each)[:10] for name, each in lost.items()} }")
    for each in run.outsides:
        got, taken = run.bodies(each.name), len(each.taken)
        again = len(got) - len(set(got))
        print(f"{each.name}: {taken} handed over, 0 lost, {again} twice ({again / taken:.2%})")
        assert taken > 50
    _check_clock(run, began, ended)
    print(f"kills: {dict(kills)}")


def _check_clock(run: SourceRun, began: float, ended: float) -> None:
    requests = run.headrace.sinks.requests("ping")
    ids = {request.headers["ce-id"]: request.headers["ce-time"] for request in requests}
    times = Counter(ids.values())
    # One time has one id: a subscriber that knows ids sees each time once.
    assert set(times.values()) == {1}
    fired = {int(datetime.fromisoformat(each).timestamp()) for each in times}
    missing = [each for each in range(int(began) + 1, int(ended)) if each not in fired]
    again = len(requests) - len(ids)
    print(
        f"ping: {len(ids)} times, {again} twice with the same id, {len(missing)} without a process"
    )
    assert again <= 3
    assert len(missing) <= SILENCE_SECONDS
