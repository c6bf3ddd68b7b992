"""Names of streams, subjects and durable consumers, from the names of topics and groups.

Names of streams and consumers may not contain dots, spaces, wildcards and slashes (they are tokens
of subjects, and directories on the server). A dot is written as `_`; all other characters except
letters, digits and hyphens as `=` and two hexadecimal digits for each byte. No two names are mapped
to the same one.
"""

import re
from functools import lru_cache
from typing import Final

from headrace.domain.backend_name import JETSTREAM, backend_of, without_backend
from headrace.domain.errors import WriteRefused

NAME_LENGTH_MAX: Final = 255
"""Of a stream or a consumer (`JSMaxNameLen` of nats-server)."""
SUBJECT_PREFIX: Final = "headrace."

_SPECIAL: Final = re.compile(r"[^A-Za-z0-9-]")


@lru_cache(maxsize=4096)
def stream_name(topic: str) -> str:
    """Return the name of the stream of a topic. Raises `WriteRefused` if the topic has a name that
    JetStream does not accept.
    """
    return _encode(topic, "topic")


@lru_cache(maxsize=4096)
def subject(topic: str) -> str:
    """Return the subject of the records of a topic."""
    return SUBJECT_PREFIX + stream_name(topic)


@lru_cache(maxsize=4096)
def durable_name(group: str) -> str:
    """Return the name of a group's durable consumers, the same in every stream. Raises as
    `stream_name`.
    """
    return _encode(group, "group")


def _encode(name: str, what: str) -> str:
    bare = without_backend(name)
    if backend_of(name) != JETSTREAM or not bare:
        raise WriteRefused(
            f"{what} {name} is not in JetStream: its name must begin with {JETSTREAM}:"
        )
    encoded = _SPECIAL.sub(_escape, bare)
    if len(encoded) > NAME_LENGTH_MAX:
        raise WriteRefused(
            f"{what} {name} has a name of {len(encoded)} characters in JetStream, the limit is"
            f" {NAME_LENGTH_MAX}"
        )
    return encoded


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    if character == ".":
        return "_"
    return "".join(f"={byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
