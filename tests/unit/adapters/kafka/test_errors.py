"""Error codes are known in one place, which answers each question about them."""

import re
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from headrace.adapters.kafka import errors
from headrace.adapters.kafka.errors import (
    is_commit_retriable,
    is_fatal,
    is_instance_fenced,
    is_writer_fenced,
    proves_membership,
)

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
