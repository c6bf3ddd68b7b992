"""Tries renewed credentials on the brokers, before any client is replaced.

Files may be renewed before the brokers know the new authority or password. The clients that are
connected then continue to work, and clients with the new credentials would not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from headrace.adapters.kafka.credentials import ClientCredentials
from headrace.adapters.kafka.errors import call_error, is_answer, is_denied
from headrace.adapters.kafka.options import KafkaOptions, client_logger
from headrace.domain.errors import LogUnavailable

_ANSWER_SECONDS: Final = 5.0


def check_credentials(options: KafkaOptions, settings: Mapping[str, str]) -> None:
    """Connect once with these settings. Blocks for 5 s at most. Raises a `HeadraceError` when no
    broker answers.
    """
    reported: list[KafkaError] = []
    tried = replace(options, credentials=ClientCredentials(settings))
    try:
        client = AdminClient(
            {**tried.client(error_cb=reported.append), "log_level": 0}, logger=client_logger
        )
    except KafkaException as error:
        raise call_error(error.args[0], "the client for Kafka") from error
    try:
        answer: Any = client.describe_cluster(request_timeout=_ANSWER_SECONDS)
        answer.result(_ANSWER_SECONDS + 1.0)
    except KafkaException as error:
        if is_answer(error.args[0]):
            return
        client.poll(0)  # Adds to `reported`.
        raise _refusal([*reported, error.args[0]]) from error
    except TimeoutError as error:
        client.poll(0)
        raise _refusal(reported) from error


def _refusal(errors: Sequence[KafkaError]) -> LogUnavailable:
    reason = next((each for each in errors if is_denied(each)), next(iter(errors), None))
    detail = f": {reason.str()} ({reason.name()})" if reason is not None else ""
    return LogUnavailable(f"no broker accepts a connection with them{detail}")
