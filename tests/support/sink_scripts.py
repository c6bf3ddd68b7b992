"""A sink's behaviour, as values that are sent as JSON from a test to the sinks' process."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Mode(StrEnum):
    """What a sink does with a request after it has read it."""

    ANSWER = "answer"
    """Answers with the script's status, headers and body."""
    HANG = "hang"
    """Sends nothing until the client closes the connection."""
    DRIP = "drip"
    """Sends a head, then a body byte from time to time, without end."""
    BOMB = "bomb"
    """Answers 200 with a gzip body that is a thousand times larger unpacked."""
    RESET = "reset"
    """Closes the connection."""
    REPLY = "reply"
    """Answers 200 with an event: the received one with another type and id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The behaviour of one sink."""

    mode: Mode = Mode.ANSWER
    status: int = 202
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    delay_seconds: float = 0.0
    """Time between a request and its answer."""
    failures: int = 0
    """How many requests with one event id fail before the script's answer is given."""
    failures_every: int = 1
    """Only events whose counter is a multiple of this fail so."""
    failure_status: int = 500
    poison: Mapping[str, int] = field(default_factory=dict)
    """Permanent status by `modulo:remainder` of the event's counter: `{"50:7": 400}`."""
    reply_type: str = "ledger.reply"
    record: bool = False
    """Keep whole requests for `SinkProcess.requests`; not for load."""

    def as_json(self) -> str:
        """The script as it is sent."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> "Script":
        """Inverse of `as_json`."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "mode": Mode(values.get("mode", Mode.ANSWER))})

    def poisoned(self, counter: int) -> int | None:
        """The permanent status for the event of this counter."""
        for rule, status in self.poison.items():
            modulo, _, remainder = rule.partition(":")
            if counter % int(modulo) == int(remainder):
                return status
        return None
