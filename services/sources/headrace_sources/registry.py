"""The adapters that the service knows, by the name that routing records have for them."""

import importlib
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, cast

import structlog

from headrace_sources.settings import ADAPTERS_SETTING
from headrace_sources.source import Source, SourceConfig, SourceContext, SourceFault

logger = structlog.get_logger(__name__)


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
    class_name: str
    placement: Placement
    extra: str = ""
    """The extra of the distribution that has the client library of the outside system; empty if
    none is needed.
    """
    imports: tuple[str, ...] = ()
    """The packages that the extra provides."""

    def load(self) -> SourceClass:
        """Import the adapter. Raises `SourceFault` that names the extra if its library is
        missing, or what is wrong with the module.
        """
        place = f"{self.module}:{self.class_name}"
        try:
            found = getattr(importlib.import_module(self.module), self.class_name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in self.imports:
                raise SourceFault(
                    "LibraryMissing",
                    f"the sources service lacks {error.name}; install headrace[{self.extra}]",
                ) from error
            raise SourceFault(_NOT_FOUND, f"{place} cannot be imported: {error}") from error
        # A module may do anything when it is imported, a script may end; the other sources run on.
        except (Exception, SystemExit) as error:
            if isinstance(error, AttributeError) and error.name == self.class_name:
                reason = f"module {self.module} has no class {self.class_name}"
            else:
                reason = f"{place} cannot be imported: {type(error).__name__}"
            raise SourceFault(_NOT_FOUND, reason) from error
        config = getattr(found, "Config", None)
        if not (isinstance(config, type) and issubclass(config, SourceConfig)):
            raise SourceFault(_NOT_FOUND, f"{place}.Config is no SourceConfig")
        return cast(SourceClass, found)


_NOT_FOUND = "AdapterNotFound"
_MODULES = "headrace_sources.adapters"
ADAPTERS: Mapping[str, AdapterEntry] = {
    "aws-sqs": AdapterEntry(
        f"{_MODULES}.aws.sqs",
        "AwsSqsSource",
        Placement.EVERY_PROCESS,
        extra="sources-aws",
        imports=("aiobotocore", "botocore"),
    ),
    "camel": AdapterEntry(
        f"{_MODULES}.camel.source",
        "CamelSource",
        Placement.ONE_PROCESS,
        extra="sources-camel",
        imports=("yaml",),
    ),
    "container": AdapterEntry(
        f"{_MODULES}.container.source", "ContainerSource", Placement.ONE_PROCESS
    ),
    "github": AdapterEntry(f"{_MODULES}.github", "GitHubSource", Placement.EVERY_PROCESS),
    "ping": AdapterEntry(f"{_MODULES}.ping", "PingSource", Placement.ONE_PROCESS),
    "kafka": AdapterEntry(f"{_MODULES}.kafka", "KafkaSource", Placement.EVERY_PROCESS),
    "kubernetes": AdapterEntry(
        f"{_MODULES}.kubernetes.source", "KubernetesSource", Placement.ONE_PROCESS
    ),
    "timer": AdapterEntry(f"{_MODULES}.timer", "TimerSource", Placement.ONE_PROCESS),
    "webhook": AdapterEntry(f"{_MODULES}.webhook", "WebhookSource", Placement.EVERY_PROCESS),
    "gcp-pubsub": AdapterEntry(
        f"{_MODULES}.gcp_pubsub",
        "GcpPubSubSource",
        Placement.EVERY_PROCESS,
        extra="sources-pubsub",
        imports=("google", "grpc"),
    ),
}


def check_own_adapters(adapters: Mapping[str, AdapterEntry], own: Collection[str]) -> None:
    """Import the adapters of an operator, so that a mistake in the setting or in a module shows
    when the service starts, and not when a resource needs it.
    """
    for name in own:
        try:
            adapters[name].load()
        except SourceFault as fault:
            cause = fault.__cause__
            logger.error(
                "adapter_not_loaded",
                setting=ADAPTERS_SETTING,
                adapter=name,
                error=str(fault),
                next_step="correct it and start the service again; the other adapters run",
                exc_info=None if isinstance(cause, ModuleNotFoundError) else cause,
            )


def adapters_with(own: Mapping[str, tuple[str, str]]) -> Mapping[str, AdapterEntry]:
    """Return the adapters, with those of an operator (module and class by name). One process at a
    time runs each source of the latter.
    """
    if own and (directory := str(Path.cwd())) not in sys.path:
        sys.path.append(directory)
    return {
        **ADAPTERS,
        **{
            name: AdapterEntry(module, class_name, Placement.ONE_PROCESS)
            for name, (module, class_name) in own.items()
        },
    }
