"""The steps that change topics, groups and offsets."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.resources.control_ports import TopicSpec
from headrace_controller.reconcile.plan import BackendStep


@dataclass(frozen=True, slots=True)
class CreateTopic(BackendStep):
    """Create a topic."""

    topic: TopicSpec

    @property
    def subject(self) -> str:
        """As `BackendStep.subject`."""
        return self.topic.name


@dataclass(frozen=True, slots=True)
class AddPartitions(BackendStep):
    """Raise a topic's number of partitions to `total`."""

    topic: str
    total: int

    @property
    def subject(self) -> str:
        """As `BackendStep.subject`."""
        return self.topic


@dataclass(frozen=True, slots=True)
class AddReplicas(BackendStep):
    """Raise a topic's number of replicas to `total`."""

    topic: str
    total: int

    @property
    def subject(self) -> str:
        """As `BackendStep.subject`."""
        return self.topic


@dataclass(frozen=True, slots=True)
class AlterTopic(BackendStep):
    """Set topic settings that have drifted."""

    topic: str
    settings: Mapping[str, str]

    @property
    def subject(self) -> str:
        """As `BackendStep.subject`."""
        return self.topic


@dataclass(frozen=True, slots=True)
class DeleteTopic(BackendStep):
    """Delete a topic."""

    topic: str

    @property
    def subject(self) -> str:
        """As `BackendStep.subject`."""
        return self.topic


@dataclass(frozen=True, slots=True)
class CommitInitialOffsets(BackendStep):
    """Commit start offsets of a group: the end offset at execution time for some partitions, 0 for
    others.
    """

    group: str
    topic: str
    at_end: tuple[int, ...] = ()
    at_beginning: tuple[int, ...] = ()

    @property
    def subject(self) -> str:
        """As `BackendStep.subject`."""
        return self.group


@dataclass(frozen=True, slots=True)
class DeleteGroup(BackendStep):
    """Delete a consumer group with its offsets."""

    group: str

    @property
    def subject(self) -> str:
        """As `BackendStep.subject`."""
        return self.group
