"""What the readers of one process share."""

from collections.abc import Iterator

import pytest

from headrace.adapters.kafka.consumer.shared_resources import SharedConsumerResources
from tests.unit.adapters.kafka.channel_reader.memory_offsets import OPTIONS


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedConsumerResources]:
    """Without the queries of topic ids."""
    resources = SharedConsumerResources.create(OPTIONS)
    monkeypatch.setattr(resources.topic_ids, "watch", lambda _: None)
    monkeypatch.setattr(resources.topic_ids, "unwatch", lambda _: None)
    yield resources
    resources.close()
