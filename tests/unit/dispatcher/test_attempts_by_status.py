"""The attempts of a subscription by status code, for Knative's names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from headrace.domain.delivery import DeliveryPolicy, Failure, Outcome
from headrace.domain.routing import Addressable, Destination
from headrace.runtime.metrics import Metrics
from headrace_dispatcher.attempts_by_status import AttemptsByStatus
from tests.support.metrics_page import samples
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import (
    CHANNEL,
    SINK,
    SUBSCRIBER,
    DispatcherHarness,
    dispatcher_harness,
)

BROKER = Addressable(
    uid="b", generation=1, epoch=1, namespace="shop", name="orders", topic=CHANNEL, kind="Broker"
)


@asynccontextmanager
async def knative_harness(
    addressable: Addressable | None = BROKER,
) -> AsyncIterator[DispatcherHarness]:
    """A harness whose page has Knative's names."""
    async with dispatcher_harness() as harness:
        harness.metrics = Metrics(process=False)
        harness.metrics.knative_names = True

        def addressable_of(topic: str) -> Addressable | None:
            assert CHANNEL == topic
            return addressable

        families = AttemptsByStatus(harness.metrics, addressable_of)
        harness.context = replace(harness.context, metrics=families)
        yield harness


def counts(harness: DispatcherHarness) -> dict[str, float]:
    """How many attempts there were, by status code."""
    page = samples(harness.metrics.expose(openmetrics=True)[0].decode())
    return {
        each.labels.get("http_response_status_code", ""): each.value
        for each in page
        if each.name == "kn_eventing_dispatch_latency_ms_count"
    }


async def test_each_attempt_is_in_the_histogram_of_its_status() -> None:
    """With the labels of the Trigger, and of its Broker."""
    async with knative_harness() as harness:
        harness.start_worker(kind="Trigger")
        failed = Outcome(failure=Failure.TIMEOUT, detail="no response")
        harness.sender.script(SUBSCRIBER, Outcome(status=503), failed, Outcome(status=202))
        await harness.publish("1")
        await wait_until_async(lambda: "202" in counts(harness), what="the event is delivered")
        assert {"503": 1.0, "": 1.0, "202": 1.0} == counts(harness)
        page = harness.metrics.expose()[0].decode()
        labels = 'consumer_name="small",name="orders",namespace_name="shop"'
        codes = 'response_code="503",response_code_class="5xx"'
        assert f"event_count_1_total{{{labels},{codes}}} 1.0" in page
        assert 'kn_trigger_name="small"' in page
        assert 'kn_broker_name="orders"' in page
        assert 'headrace_attempts_total{kind="Trigger",name="small"' in page


async def test_dead_letters_are_not_attempts_at_the_subscriber() -> None:
    """Knative has them in the same histogram, with the labels of the attempt before."""
    async with knative_harness() as harness:
        harness.start_worker(
            delivery=DeliveryPolicy(retry=0), dead_letter_sink=Destination(url=SINK)
        )
        harness.sender.script(SUBSCRIBER, Outcome(status=400))
        await harness.publish("1")
        await wait_until_async(lambda: harness.requests(SINK) == 1, what="the dead letter is sent")
        assert {"400": 1.0} == counts(harness)


@pytest.mark.parametrize(("status", "shown"), [(299, "200"), (499, "400"), (599, "500")])
async def test_a_status_that_is_not_registered_is_the_first_of_its_class(
    status: int, shown: str
) -> None:
    """A subscriber cannot create hundreds of time series."""
    async with knative_harness() as harness:
        harness.start_worker(delivery=DeliveryPolicy(retry=0))
        harness.sender.script(SUBSCRIBER, Outcome(status=status))
        await harness.publish("1")
        await wait_until_async(lambda: counts(harness), what="the attempt ends")
        assert {shown: 1.0} == counts(harness)


async def test_without_the_addressable_its_labels_are_empty() -> None:
    """Its record may come later than the first event, or be gone."""
    async with knative_harness(None) as harness:
        harness.start_worker(kind="Trigger")
        await harness.publish("1")
        await wait_until_async(lambda: counts(harness), what="the attempt ends")
        assert 'consumer_name="small",name="",namespace_name=""' in (
            harness.metrics.expose()[0].decode()
        )


async def test_a_deleted_subscription_is_shown_no_more() -> None:
    """And one that gets another kind has the new labels."""
    async with knative_harness() as harness:
        worker = harness.start_worker(kind="")
        await harness.publish("1")
        await wait_until_async(lambda: counts(harness), what="the attempt ends")
        worker.metrics.relabel(replace(worker.subscription, kind="Trigger"))
        assert {} == counts(harness)
        await harness.publish("2")
        await wait_until_async(lambda: counts(harness), what="the attempt ends")
        assert 'kn_trigger_name="small"' in harness.metrics.expose()[0].decode()
        worker.metrics.remove()
        assert {} == counts(harness)
