"""One logging convention (`headrace.runtime.logging`): one logger per module, named after it, and a
literal snake_case event name with fields in every call, so that logs can be searched. A call that
passes an exception for its traceback (`exc_info`) has it in the field `error` too.
"""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.unit.tree.sources import modules

LEVELS = frozenset({"debug", "info", "warning", "error", "critical", "exception"})
EVENT_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
CONVENTION = "logger = structlog.get_logger(__name__)"
CLIENT_LOGGER = re.compile(
    r"_?client_log(ger)? = logging\.getLogger\('headrace\.kafka(\.client)?'\)"
)
"""Passed to the Kafka client library for its own lines. Nothing else may be logged with it."""
EXEMPT = ("src/headrace/runtime/logging.py", "src/headrace/runtime/kafka_log_hints.py")
"""They configure logging; they write no line."""


def _loggers(module: ast.Module) -> Iterator[tuple[int, str, str]]:
    """(line, name, statement) of each variable that holds a logger, imported ones included."""
    for node in ast.walk(module):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and _makes_logger(node.value)
        ):
            yield node.lineno, node.targets[0].id, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name in ("logger", "log", "client_log", "client_logger"):
                    yield node.lineno, alias.asname or alias.name, ast.unparse(node)


def _makes_logger(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("getLogger", "get_logger")
    )


def _calls(module: ast.Module, names: set[str]) -> Iterator[ast.Call]:
    """Every log call: on one of these variables, on a new logger, or on `logging` itself."""
    for node in ast.walk(module):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
        ):
            owner = node.func.value
            if (isinstance(owner, ast.Name) and owner.id in {*names, "logging"}) or (
                _makes_logger(owner)
            ):
                yield node


def violations(module: ast.Module) -> Iterator[str]:
    """What does not follow the convention."""
    client_loggers, names = set(), set()
    for line, name, statement in _loggers(module):
        names.add(name)
        if CLIENT_LOGGER.fullmatch(statement) or "client_log" in name:
            client_loggers.add(name)
        elif statement != CONVENTION:
            yield f"{line}: {statement}"
    for call in _calls(module, names):
        owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        event = call.args[0] if call.args else None
        if owner != "logger" or owner in client_loggers:
            yield f"{call.lineno}: logs with {owner}"
        elif not (
            isinstance(event, ast.Constant)
            and isinstance(event.value, str)
            and EVENT_NAME.fullmatch(event.value)
        ):
            yield f"{call.lineno}: {ast.unparse(event) if event else 'no event'} is no event name"
        elif len(call.args) > 1:
            yield f"{call.lineno}: positional arguments instead of fields"
    yield from _errors_without_field(module, names)


def _errors_without_field(module: ast.Module, names: set[str]) -> Iterator[str]:
    """Log calls about an exception that lack the field `error`: with `exc_info=`, or of a warning
    or worse where an exception is handled by name.
    """
    handled = {
        call
        for handler in ast.walk(module)
        if isinstance(handler, ast.ExceptHandler) and handler.name is not None
        for call in _calls(ast.Module(handler.body, []), names)
        if isinstance(call.func, ast.Attribute) and call.func.attr not in ("debug", "info")
    }
    for call in _calls(module, names):
        fields = {keyword.arg for keyword in call.keywords}
        if (call in handled or "exc_info" in fields) and fields.isdisjoint({"error", None}):
            yield f"{call.lineno}: the field error is missing"


@pytest.mark.parametrize("path", [each for each in modules() if each not in EXEMPT])
def test_the_convention_is_followed(path: str) -> None:
    """In every module."""
    assert [] == list(violations(modules()[path]))


@pytest.mark.parametrize(
    "text",
    [
        "log = structlog.get_logger(__name__)",
        "logger = logging.getLogger(__name__)",
        "logger = structlog.get_logger('headrace.x')",
        f"{CONVENTION}\nlogger.info('a sentence')",
        f"{CONVENTION}\nlogger.info(f'started_{{name}}')",
        f"{CONVENTION}\nlogger.info(name)",
        f"{CONVENTION}\nlogger.info('started', name)",
        f"{CONVENTION}\nlogger.error('failed', exc_info=error)",
        "structlog.get_logger(__name__).info('started')",
        "logging.warning('started')",
        "_client_log = logging.getLogger('headrace.kafka')\n_client_log.info('started')",
        f"{CONVENTION}\nlogger.error('failed', exc_info=error)",
        f"{CONVENTION}\ntry: f()\nexcept OSError as error: logger.warning('failed', file=file)",
    ],
)
def test_a_violation_is_found(text: str) -> None:
    """Each form that is not allowed."""
    assert list(violations(ast.parse(text)))


def test_the_convention_has_no_violation() -> None:
    """The convention itself, and the logger of the Kafka client library."""
    text = f"""
{CONVENTION}
_client_log = logging.getLogger("headrace.kafka.client")
logger.warning("leadership_lost", epoch=3, error=str(error), next_step="check Kafka")
logger.error("request_failed", error=repr(error), exc_info=error)
Consumer(settings, logger=_client_log)
try:
    read(file)
except FileNotFoundError as error:
    logger.info("file_absent", file=error.filename)
except OSError as error:
    logger.exception("read_failed", error=str(error))
except ValueError:
    logger.warning("file_ignored", file=file)
"""
    assert [] == list(violations(ast.parse(text)))
