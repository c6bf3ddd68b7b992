"""The configuration of the adapter `camel`."""

from pydantic import Field

from headrace_sources.source import SecretKeyRef, SourceConfig

EVENT_TYPE = "org.apache.camel.event"


class PropertyFrom(SourceConfig):
    """A property from a Secret; without a name, the value is a whole file of properties."""

    name: str = ""
    secret_key_ref: SecretKeyRef


class RouteFile(SourceConfig):
    """A file of routes; the end of its name says in which language."""

    name: str
    content: str


class CamelConfig(SourceConfig):
    """What Camel runs: exactly one of `uri`, `route` and `files`."""

    type: str = EVENT_TYPE
    """Attribute of events for which the route sets none."""
    source: str
    """The same."""
    uri: str = ""
    """An endpoint whose messages become events."""
    route: str = ""
    """Routes in the YAML DSL."""
    files: tuple[RouteFile, ...] = ()
    """Files of routes."""
    properties: dict[str, str] = Field(default_factory=dict)
    """Properties of Camel: placeholders of the routes, and options of components."""
    properties_from: tuple[PropertyFrom, ...] = ()
    dependencies: tuple[str, ...] = ()
    """Further artifacts: `camel:NAME`, or `mvn:GROUP:NAME:VERSION`."""
