"""Forward an order event: read it from an HTTP request, filter it, write it as a Kafka record.

Run it with `python examples/library/forward.py`; it only needs `pip install headrace`.
"""

from collections.abc import Mapping

from headrace import cesql, cloudevents, filters

WANTED: filters.Filter = filters.compile([{"prefix": {"type": "order."}}])
LARGE: cesql.Expression = cesql.compile("EXISTS amount AND amount >= 1000")


def forward(headers: Mapping[str, str], body: bytes) -> cloudevents.Record | None:
    """The record to produce, or None for an event that is not wanted. Raises `InvalidEvent`."""
    event: cloudevents.Event = cloudevents.read_http(headers, body)
    if not WANTED.matches(event.attributes):
        return None
    large: cesql.Result = LARGE.evaluate(event.attributes)
    priority = "high" if large.value and large.problem is None else "normal"
    return cloudevents.write_kafka(
        cloudevents.Event({**event.attributes, "priority": priority}, event.data)
    )


def main() -> None:
    """Forward one event and show the record."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/shop",
        "ce-type": "order.created",
        "ce-amount": "1500",
        "content-type": "application/json",
    }
    record = forward(headers, b'{"order": 1}')
    if record is not None:
        for name, value in record.headers:
            print(f"{name}: {value.decode()}")
        print((record.value or b"").decode())


if __name__ == "__main__":
    main()
