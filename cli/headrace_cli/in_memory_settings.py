"""The settings of in-memory channels: `HEADRACE_IN_MEMORY_*`."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from headrace.adapters.memory.backend import BYTES_MAX
from headrace.runtime.settings import Ge, Settings


@dataclass(frozen=True, kw_only=True)
class InMemorySettings(Settings):
    """The settings of a process that serves in-memory channels."""

    env_prefix: ClassVar[str] = "HEADRACE_IN_MEMORY_"

    bytes_max: Annotated[int, Ge(8 * 1024 * 1024)] = BYTES_MAX
    """Memory for events that are not delivered yet and for dead letters, of all channels together;
    one topic may take a quarter. A channel that has no room answers 503.
    """
