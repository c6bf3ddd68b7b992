"""Error codes are known in one place, which answers each question about them."""

import re
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from headrace.adapters.kafka import errors
from headrace.adapters.kafka.errors import (
    broker_error,
    call_error,
    connection_error,
    has_members,
    is_commit_not_read,
    is_commit_retriable,
    is_commit_unclear,
    is_coordinator_change,
    is_denied,
    is_fatal,
    is_instance_fenced,
    is_unreachable,
    is_writer_fenced,
    login_error,
    proves_membership,
    settings_error,
    tls_error,
)
from headrace.domain.errors import LogUnavailable, WriteRefused

PACKAGE = Path(errors.__file__).parent


def test_no_other_module_knows_error_codes() -> None:
    """Otherwise two modules may disagree on what an error means."""
    found = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if re.search(r"KafkaError\._?[A-Z]", path.read_text())
    }
    assert {"errors.py"} == found


@pytest.mark.parametrize(
    ("code", "retriable", "member"),
    [
        (KafkaError.STALE_MEMBER_EPOCH, True, True),
        (KafkaError.REBALANCE_IN_PROGRESS, True, True),
        (KafkaError.NOT_COORDINATOR, True, False),
        (KafkaError._WAIT_COORD, True, False),
        (KafkaError.ILLEGAL_GENERATION, False, False),
        (KafkaError.UNKNOWN_MEMBER_ID, False, False),
    ],
)
def test_refused_commits(code: int, *, retriable: bool, member: bool) -> None:
    """A commit of an old generation cannot succeed later; one during a rebalance can."""
    error = KafkaError(code)
    assert (retriable, member) == (is_commit_retriable(error), proves_membership(error))


def test_fencing_depends_on_who_is_fenced() -> None:
    """A member by its instance, a transaction by its producer epoch."""
    instance = KafkaError(KafkaError.FENCED_INSTANCE_ID)
    epoch = KafkaError(KafkaError.INVALID_PRODUCER_EPOCH)
    assert (True, False) == (is_instance_fenced(instance), is_writer_fenced(instance))
    assert (False, True) == (is_instance_fenced(epoch), is_writer_fenced(epoch))


def test_a_failed_client_reports_its_reason_as_text() -> None:
    """Fatal errors have one code."""
    fenced = KafkaError(KafkaError._FATAL, "Static consumer fenced by other consumer")
    other = KafkaError(KafkaError._FATAL, "out of memory")
    assert is_fatal(fenced)
    assert is_fatal(other)
    assert is_instance_fenced(fenced)
    assert not is_instance_fenced(other)


@pytest.mark.parametrize(
    ("code", "members", "change", "not_read", "unclear"),
    [
        (KafkaError.UNKNOWN_MEMBER_ID, True, False, False, False),
        (KafkaError.ILLEGAL_GENERATION, True, False, False, False),
        (KafkaError.REBALANCE_IN_PROGRESS, True, False, False, False),
        (KafkaError.STALE_MEMBER_EPOCH, True, False, False, False),
        (KafkaError.NOT_COORDINATOR, False, True, True, False),
        (KafkaError.COORDINATOR_LOAD_IN_PROGRESS, False, True, True, False),
        (KafkaError.COORDINATOR_NOT_AVAILABLE, False, True, False, True),
        (KafkaError.REQUEST_TIMED_OUT, False, False, False, True),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, False, False, False, False),
    ],
)
def test_what_the_answer_to_a_commit_from_no_member_says(
    code: int, members: bool, change: bool, not_read: bool, unclear: bool
) -> None:
    """Whether the group has members, whether to look for its coordinator again, and whether
    nothing, or perhaps something, is stored.
    """
    error = broker_error(code)
    assert (members, change, not_read, unclear) == (
        has_members(error),
        is_coordinator_change(error),
        is_commit_not_read(error),
        is_commit_unclear(error),
    )


def test_what_happens_before_a_broker_answers() -> None:
    """A lost connection may pass by itself; a refusal does not."""
    assert is_unreachable(connection_error("lost"))
    assert isinstance(call_error(connection_error("lost"), "group g"), LogUnavailable)
    for error in (tls_error("no"), login_error("no"), settings_error("no")):
        assert not is_unreachable(error)
        assert isinstance(call_error(error, "group g"), WriteRefused)
    assert is_denied(tls_error("no"))
    assert is_denied(login_error("no"))
