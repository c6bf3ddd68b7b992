"""How a program that sends events learns where to: the environment variables and the argument of
Knative's sink binding contract.

`K_SINK` is the URL of the sink, `K_CE_OVERRIDES` the extension attributes that every event gets, as
JSON, and `K_CA_CERTS` the certificate authorities to trust at the sink. Programs for Knative 0.5 to
0.7 read `SINK`, or the argument `--sink=`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

SINK: Final = "K_SINK"
OVERRIDES: Final = "K_CE_OVERRIDES"
CA_CERTS: Final = "K_CA_CERTS"
LEGACY_SINK: Final = "SINK"
_LEGACY_ARGUMENT: Final = "--sink="
_LEGACY_FORMS: Final = (_LEGACY_ARGUMENT, "-sink=")
"""The flag as programs in Go accept it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkVariables:
    """Where a program sends its events."""

    sink: str
    extensions: Mapping[str, str] = field(default_factory=dict)
    ca_certs: str = ""
    """In PEM form."""
    legacy: bool = False
    """Whether the program was written for Knative 0.5 to 0.7."""

    def environment(self) -> dict[str, str]:
        """The variables by name, in a fixed order."""
        found = {SINK: self.sink}
        if self.extensions:
            extensions = dict(sorted(self.extensions.items()))
            found[OVERRIDES] = json.dumps({"extensions": extensions}, separators=(",", ":"))
        if self.ca_certs:
            found[CA_CERTS] = self.ca_certs
        if self.legacy:
            found[LEGACY_SINK] = self.sink
        return found

    def arguments(self, given: Sequence[str]) -> list[str]:
        """The arguments of the program; a sink that its owner gave stays."""
        if not self.legacy or legacy_sink_of(given):
            return list(given)
        return [*given, f"{_LEGACY_ARGUMENT}{self.sink}"]


def legacy_sink_of(arguments: Sequence[str]) -> str:
    """The sink in the arguments of a program for Knative 0.5 to 0.7; empty if there is none."""
    for each in arguments:
        if each.startswith(_LEGACY_FORMS):
            return each.partition("=")[2]
    return ""
