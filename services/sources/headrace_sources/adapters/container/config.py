"""The configuration of the adapter `container`: what it runs, and where that sends events."""

from collections.abc import Mapping

from headrace.domain.sink_variables import SinkVariables
from headrace_sources.source import SecretKeyRef, SourceConfig


class EnvironmentVariable(SourceConfig):
    """A variable with a plain value, or one of a Secret."""

    name: str
    value: str = ""
    secret_key_ref: SecretKeyRef | None = None


class Container(SourceConfig):
    """One container of a pod template, with the fields of Kubernetes."""

    name: str
    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvironmentVariable, ...] = ()
    working_dir: str = ""
    image_pull_policy: str = ""


class ContainerConfig(SourceConfig):
    """The containers of one source."""

    sink: str
    """URL that the events are posted to."""
    extensions: Mapping[str, str] = {}
    """Extension attributes that the program is asked to set."""
    ca_certs: str = ""
    legacy: bool = False
    """Whether the program was written for Knative 0.5 to 0.7."""
    init_containers: tuple[Container, ...] = ()
    """Each runs to its end before the next one starts."""
    containers: tuple[Container, ...]

    def sink_variables(self, sink: str) -> SinkVariables:
        """What the containers learn of the sink, which they reach at the URL `sink`."""
        return SinkVariables(
            sink=sink,
            extensions=self.extensions,
            ca_certs=self.ca_certs,
            legacy=self.legacy,
        )
