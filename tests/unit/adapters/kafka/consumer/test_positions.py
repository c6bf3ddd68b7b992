"""What was committed, as the client returns it."""

from confluent_kafka import TopicPartition

from headrace.adapters.kafka.consumer.positions import metadata_of


class UnreadableMetadata(TopicPartition):
    """The client's answer when bytes that are not UTF-8 follow the text in its memory."""

    @property
    def metadata(self) -> str:  # type: ignore[override]
        raise UnicodeDecodeError("utf-8", b"h1\x9f", 2, 3, "invalid start byte")


def test_metadata_that_the_client_cannot_read_is_empty() -> None:
    """The offset counts: what was done beyond it is delivered again."""
    assert metadata_of(UnreadableMetadata("t", 0, 5)) == ""
    assert metadata_of(TopicPartition("t", 0, 5, "h1")) == "h1"
    assert metadata_of(TopicPartition("t", 0, 5)) == ""
