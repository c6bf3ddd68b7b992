"""What a check against a JSON Schema costs the ingress for each event: CPU time of the check alone,
beside that of reading the event.

    .venv/bin/python -m bench.schema_checks

Needs no Kafka. The whole path of an event through the ingress is what `make bench` measures.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from headrace.adapters.json_schema.compiler import compile_schema
from headrace.codec.http import read
from headrace.domain.routing import EventSchema
from headrace_ingress.ingress import load_schema_compiler
from headrace_ingress.schema_checks import CompiledSchemas, SchemaChecks

ORDER: dict[str, Any] = {
    "type": "object",
    "required": ["id", "total", "items"],
    "properties": {
        "id": {"type": "string", "pattern": "^[a-z0-9-]+$"},
        "total": {"type": "number", "minimum": 0},
        "note": {"type": "string", "maxLength": 1000},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["sku", "count"],
                "properties": {
                    "sku": {"type": "string"},
                    "count": {"type": "integer", "minimum": 1},
                },
                "additionalProperties": False,
            },
        },
    },
}
WIDE = {
    "type": "object",
    "properties": {
        f"p{number}": {"type": "string", "pattern": f"^[a-z]{{1,{number % 50 + 1}}}$"}
        for number in range(1_000)
    },
}
SECONDS = 1.0


def order(items: int) -> bytes:
    """The data of an order."""
    document = {
        "id": "a-1",
        "total": 12.5,
        "note": "x" * 100,
        "items": [{"sku": f"sku-{number}", "count": number + 1} for number in range(items)],
    }
    return json.dumps(document).encode()


def microseconds(call: Callable[[], object]) -> float:
    """CPU time of one call: the best of five runs."""
    best = float("inf")
    for _ in range(5):
        count, started = 0, time.process_time()
        while time.process_time() - started < SECONDS / 5:
            call()
            count += 1
        best = min(best, (time.process_time() - started) / count)
    return best * 1e6


def main() -> None:
    """Print a line for each size of data."""
    schema = EventSchema(
        uid="s",
        generation=1,
        epoch=1,
        namespace="n",
        name="order",
        addressable="a",
        type="order.placed",
        schema=json.dumps(ORDER),
    )
    checks = SchemaChecks([schema], CompiledSchemas(load_schema_compiler))
    fields = [
        (b"ce-specversion", b"1.0"),
        (b"ce-id", b"7"),
        (b"ce-source", b"/shop"),
        (b"ce-type", b"order.placed"),
        (b"content-type", b"application/json"),
    ]
    print("bytes of data   read, us   check, us   check of another type, us")
    for items in (1, 24, 260, 25_000):
        body = order(items)
        [record] = read(fields, body, arrival=b"2026-01-01T00:00:00.000Z", events_max=100)
        assert checks.failure_of(record) is None
        [other] = read(
            [*fields[:3], (b"ce-type", b"other"), fields[4]], body, arrival=b"x", events_max=100
        )
        reading = microseconds(
            lambda body=body: read(fields, body, arrival=b"x", events_max=100)  # type: ignore[misc]
        )
        checking = microseconds(lambda record=record: checks.failure_of(record))  # type: ignore[misc]
        passing = microseconds(lambda other=other: checks.failure_of(other))  # type: ignore[misc]
        print(f"{len(body):>13} {reading:>10.1f} {checking:>11.1f} {passing:>27.2f}")
    for name, document in (("order", ORDER), ("1,000 properties with patterns", WIDE)):
        text = json.dumps(document)
        compiling = microseconds(lambda text=text: compile_schema(text))  # type: ignore[misc]
        print(f"compile {name}: {len(text)} bytes, {compiling:.0f} us")


if __name__ == "__main__":
    main()
