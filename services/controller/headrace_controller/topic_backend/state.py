"""What is observed of topics and groups for a decision."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from headrace.resources.control_ports import GroupState, TopicDescription
from headrace_controller.reconcile.observed_state import ObservedState


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBacklog:
    """What a subscription's groups have not done, in records."""

    channel: int
    """In the channel topic, of what was there at the first look."""
    retries: int
    """In the retry topic."""
    delayed: int
    """In the delay topics, of all subscriptions together."""
    quiet_seconds: float
    """How long the first two have been 0 and nothing has come into the retry topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicBackendState:
    """The facts about topics and groups."""

    topics: Mapping[str, TopicDescription] = field(default_factory=dict)
    """The existing topics among those in the ownership records."""
    created: Collection[str] = ()
    """Topics that were created a moment ago and do not exist yet for the broker that was asked."""
    committed: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Committed offsets of the groups that were queried; a missing group is unknown."""
    groups: Mapping[str, GroupState] = field(default_factory=dict)
    """States of the groups that were queried; a missing group is unknown."""
    backlogs: Mapping[str, GroupBacklog] = field(default_factory=dict)
    """Backlogs of the groups that were queried; a missing group is unknown."""


def state_of(observed: ObservedState) -> TopicBackendState:
    """The part of the observed state that a `TopicBackend` has written."""
    state = observed.backend
    if not isinstance(state, TopicBackendState):
        raise TypeError(f"the observed state has no facts about topics, but {type(state).__name__}")
    return state
