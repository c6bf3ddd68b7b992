"""What the embedded Kafka does not support, by the test that shows it on a real Kafka: the table in
`docs/embedded.md` has the same rows.
"""

import pytest

LIMITS: dict[str, str] = {
    "test_partitions_can_be_added": "a topic keeps the partitions it was created with",
    "test_partitions_added_under_load": "a topic keeps the partitions it was created with",
    "test_event_after_ready_survives_a_crash_before_the_first_commit": (
        "all services are one process, and no process survives it"
    ),
    "test_start_on_a_backlog": "all services are one process, and no process survives it",
    "test_largest_event_can_be_dead_lettered": (
        "the routing table is not in a topic, and a topic takes a record of any size"
    ),
    "test_topic_deleted_externally": "other clients cannot delete its topics",
    # In the mock cluster, the SyncGroup request of the leader completes the rebalance for all.
    # A member that synchronises after it gets INVALID_REQUEST and joins again. During that second
    # rebalance the cluster refuses the commit of the member that gives a partition back
    # (REBALANCE_IN_PROGRESS, then ILLEGAL_GENERATION), so its records are delivered again. A Kafka
    # broker answers the late SyncGroup request and accepts commits while members join.
    "test_revocation_drains_and_commits_first": (
        "a commit is refused when a second member joins its group, if the leader synchronises first"
    ),
    "test_drain_deadline_raises_one_alarm": (
        "a commit is refused when a second member joins its group, if the leader synchronises first"
    ),
    "test_members_that_join_and_leave_repeat_nothing": (
        "a commit is refused when a second member joins its group, if the leader synchronises first"
    ),
    "test_hanging_subscriber_costs_only_itself": (
        "a topic takes no more than 4 MiB of unread records"
    ),
}
"""By name of a test: the reason."""


def skip_what_the_embedded_kafka_cannot(request: pytest.FixtureRequest) -> None:
    """Skip a test that needs a real Kafka, with the reason."""
    name = getattr(request.node, "originalname", request.node.name)
    if name in LIMITS:
        pytest.skip(f"the embedded Kafka cannot: {LIMITS[name]}")
