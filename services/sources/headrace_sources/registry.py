"""The adapters that the service knows, by the name that routing records have for them."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, cast

from headrace_sources.source import Source, SourceConfig, SourceContext, SourceFault


class Placement(Enum):
    """How several processes share one source."""

    EVERY_PROCESS = "every process"
    """All of them run it, and the outside system distributes the work (a consumer group, a
    queue), or requests arrive at any of them.
    """
    ONE_PROCESS = "one process"
    """One of them runs it at a time."""


class SourceClass(Protocol):
    """The class of an adapter."""

    Config: type[SourceConfig]

    def __call__(self, config: Any, context: SourceContext, /) -> Source:
        """Create a source."""
        ...


@dataclass(frozen=True, slots=True)
class AdapterEntry:
    """One adapter, before its module is imported."""

    module: str
    """A module of `headrace_sources.adapters`, or the full name of another one."""
    class_name: str
    placement: Placement
    extra: str = ""
    """The extra of the distribution that has the client library of the outside system; empty if
    none is needed.
    """
    imports: str = ""
    """The package that the extra provides."""

    def load(self) -> SourceClass:
        """Import the adapter. Raises `SourceFault` that names the extra if its library is
        missing.
        """
        name = self.module if "." in self.module else f"headrace_sources.adapters.{self.module}"
        try:
            return cast(SourceClass, getattr(importlib.import_module(name), self.class_name))
        except ModuleNotFoundError as error:
            if not self.extra or not (error.name or "").startswith(self.imports):
                raise
            raise SourceFault(
                "LibraryMissing",
                f"the sources service lacks {error.name}; install headrace[{self.extra}]",
            ) from error


ADAPTERS: Mapping[str, AdapterEntry] = {}
