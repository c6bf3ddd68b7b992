"""Classifies Kafka errors. Only this module uses librdkafka's error codes.

Each predicate answers one question, because the same code may be temporary for one caller and final
for another. `write_error` and `call_error` convert an error to one of the domain.
"""

from typing import Final

from confluent_kafka import KafkaError

from headrace.domain.errors import (
    Conflict,
    Fenced,
    HeadraceError,
    LogFull,
    LogUnavailable,
    NotFound,
    RecordTooLarge,
    TopicMissing,
    WriteRefused,
)

_MISSING: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
_ELECTIONS: Final = frozenset(
    {KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION}
)
_TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})
_DENIED: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
    }
)
_FENCED: Final = frozenset(
    {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.FENCED_INSTANCE_ID}
)
_WRITER_FENCED: Final = frozenset(
    {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
)
_UNREACHABLE: Final = frozenset(
    {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN}
)
_COORDINATOR_MOVES: Final = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)
_FROM_MEMBERS_ONLY: Final = frozenset(
    {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.STALE_MEMBER_EPOCH}
)
_RETRIABLE: Final = (
    _UNREACHABLE
    | _COORDINATOR_MOVES
    | {
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._RESOLVE,
        KafkaError._DESTROY,
        KafkaError._FATAL,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._STATE,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        # For a moment brokers and clients do not agree about a topic that was just created.
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
    }
)


_NOT_READ: Final = frozenset({KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS})


def broker_error(code: int, text: str = "") -> KafkaError:
    """Return the error with a code of the protocol, as a broker sends it."""
    return KafkaError(code, text) if text else KafkaError(code)


def connection_error(text: str) -> KafkaError:
    """Return the error of a connection that could not be made, was lost or has no answer."""
    return KafkaError(KafkaError._TRANSPORT, text)


def tls_error(text: str) -> KafkaError:
    """Return the error of a TLS handshake that one side refused."""
    return KafkaError(KafkaError._SSL, text)


def settings_error(text: str) -> KafkaError:
    """Return the error of settings with which no connection can be made."""
    return KafkaError(KafkaError._INVALID_ARG, text)


def login_error(text: str) -> KafkaError:
    """Return the error of a login that is refused before a broker is asked."""
    return KafkaError(KafkaError._AUTHENTICATION, text)


def is_partition_end(error: KafkaError) -> bool:
    """Whether the end of a partition was reached: an event, not a failure."""
    return error.code() == KafkaError._PARTITION_EOF


def is_offset_out_of_range(error: KafkaError) -> bool:
    """Whether the client stopped reading a partition, because it has no committed offset or the log
    does not have that offset.
    """
    return error.code() == KafkaError._AUTO_OFFSET_RESET


def is_missing(error: KafkaError) -> bool:
    """Whether the topic or partition does not exist."""
    return error.code() in _MISSING


def is_election(error: KafkaError) -> bool:
    """Whether the partition has no leader yet, or another one than the client has asked."""
    return error.code() in _ELECTIONS


def is_existing_topic(error: KafkaError) -> bool:
    """Whether a topic cannot be created because it exists."""
    return error.code() == KafkaError.TOPIC_ALREADY_EXISTS


def is_missing_group(error: KafkaError) -> bool:
    """Whether the consumer group does not exist."""
    return error.code() == KafkaError.GROUP_ID_NOT_FOUND


def is_denied(error: KafkaError) -> bool:
    """Whether the broker refuses the credentials or the access: an operator has to act."""
    return error.code() in _DENIED


def is_answer(error: KafkaError) -> bool:
    """Whether a broker has sent this error to a client that it accepts."""
    return error.code() >= 0 and error.code() != KafkaError.SASL_AUTHENTICATION_FAILED


def is_unreachable(error: KafkaError) -> bool:
    """Whether no broker answered. The client may have forgotten every broker (`client_health`)."""
    return error.code() in _UNREACHABLE


def is_fatal(error: KafkaError) -> bool:
    """Whether the client that reports it cannot be used any longer; a new one can."""
    return error.fatal() or error.code() == KafkaError._FATAL


def is_instance_fenced(error: KafkaError) -> bool:
    """Whether another consumer has the same `group.instance.id`.

    A client that has failed reports `_FATAL` only, with the reason as text.
    """
    return error.code() == KafkaError.FENCED_INSTANCE_ID or (
        is_fatal(error) and "fenced" in error.str()
    )


def is_writer_fenced(error: KafkaError) -> bool:
    """Whether a newer producer has the same transactional id.

    For a transactional producer, a stale producer epoch means exactly that. An idempotent producer
    without a transactional id recovers from it, so `call_error` counts it as temporary.
    """
    return error.code() in _WRITER_FENCED


def proves_membership(error: KafkaError) -> bool:
    """Whether a coordinator sends this refusal of a commit only to members of the group."""
    return error.code() in _FROM_MEMBERS_ONLY


def is_from_no_member(error: KafkaError) -> bool:
    """Whether a group refuses offsets because it has members and they come from none of them."""
    return error.code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION)


def has_members(error: KafkaError) -> bool:
    """Whether a group refuses a commit that comes from no member because it has members."""
    return is_from_no_member(error) or proves_membership(error)


def is_coordinator_change(error: KafkaError) -> bool:
    """Whether the coordinator of the group is another one, or loads."""
    return error.code() in _COORDINATOR_MOVES


def is_commit_not_read(error: KafkaError) -> bool:
    """Whether a broker has not looked at a commit, so that nothing of it is stored."""
    return error.code() in _NOT_READ


def is_commit_unclear(error: KafkaError) -> bool:
    """Whether a coordinator may have stored a commit that it answers with this error: it reports
    replicas that are missing or late as a coordinator that is not available.
    """
    return error.code() in (KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.REQUEST_TIMED_OUT)


def is_commit_retriable(error: KafkaError) -> bool:
    """Whether the same commit of a group member may succeed later."""
    return (
        error.retriable()
        or proves_membership(error)
        or error.code() in _COORDINATOR_MOVES
        or error.code() == KafkaError._WAIT_COORD
    )


def write_error(error: KafkaError, *, topic: str, size: int, size_max: int) -> HeadraceError:
    """Return the domain's error for a record of `size` bytes that was not stored in `topic`.

    `size_max` is reported when the client refused the record. A broker does not report its limit,
    so for its refusal the error has a limit just below `size`.
    """
    code = error.code()
    if code in _TOO_LARGE:
        return RecordTooLarge(size, min(size_max, size - 1))
    if code in _MISSING:
        return TopicMissing(topic)
    if code == KafkaError._QUEUE_FULL:
        return LogFull(topic, size_max)
    return call_error(error, f"topic {topic}")


def control_topic_error(error: KafkaError, topic: str) -> HeadraceError:
    """Return the domain's error for a control topic that cannot be read. The controller creates
    them, so that a missing one has a cause that "check Kafka" does not lead to.
    """
    if not is_missing(error):
        return call_error(error, f"topic {topic}")
    return NotFound(
        f"topic {topic} does not exist: start `headrace controller` with this Kafka, which creates"
        " it. The embedded Kafka of `headrace up` has no such topics and serves that process only:"
        " use `headrace up --kafka apache`"
    )


def call_error(error: KafkaError, what: str) -> HeadraceError:
    """Return the domain's error for a failed call about `what` (a topic, a group, the cluster),
    which the message names.

    A fatal error of one client is temporary, because the next client is a new one.
    """
    code, text = error.code(), f"{what}: {error.str()} ({error.name()})"
    if code in _FENCED:
        return Fenced(text)
    if code in _RETRIABLE or error.retriable() or error.fatal():
        return LogUnavailable(text)
    if code in _MISSING or is_missing_group(error):
        return NotFound(text)
    if is_existing_topic(error):
        return Conflict(text)
    return WriteRefused(text)
