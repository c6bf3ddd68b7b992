"""CEL for the validation rules of CRDs: rules are compiled once and evaluated within bounds, and
errors have the texts of the Kubernetes API server.

The library (Google's C++ implementation, see decision 0008) is loaded for the first rule or
pattern, and its extensions when a rule needs them, so that a controller without such rules does not
pay 10 MB for them. It checks types where they are known, and stops a rule after a number of loop
iterations and at a nesting depth. The memory and time of a rule are estimated here before it runs
(`cel_cost`), because text that is joined in a loop grows without further iterations, and a single
iteration may match a long text with a large pattern. A rule that may take long runs in a process of
its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from headrace_apiserver.schemas.cel_environment import environment
from headrace_apiserver.schemas.cel_process import (
    CPU_SECONDS_MAX,
    TooExpensive,
    evaluate_in_subprocess,
)
from headrace_apiserver.schemas.cel_text import RuleText, read_rule
from headrace_apiserver.schemas.loop_budget import LoopBudgetExceeded, is_on_loop
from headrace_apiserver.schemas.patterns import PATTERN_MAX, WEIGHT_MAX, pattern_weight

BYTES_MAX = 64 * 1024 * 1024
"""Estimated memory of one evaluation at most."""
ITERATIONS_MAX = 10_000
"""The library's own limit on the iterations of all loops of one evaluation."""
INLINE_SECONDS_MAX = 0.1
"""A rule whose estimated processor time is above this is evaluated in another process."""
SUBPROCESS_START_SECONDS = 0.06
"""What the start of a process counts as, in addition to the processor time of its rule: the rules
of one document may start several.
"""
PROGRAMS_MAX = 4_096
_ERROR = "ERROR"
"""The library's type of a value that could not be computed."""


class InvalidRule(ValueError):
    """The text is not a valid rule; the message is the compiler's."""


class RuleFailed(Exception):
    """The rule could not be evaluated for this value; the message says why, without the value."""


class Values:
    """The variables of a rule: `self`, and `oldSelf` where there is an old value. Converted once
    for all rules of a value.
    """

    __slots__ = ("_activations", "_measure", "_old", "_value", "subprocess_seconds")

    def __init__(self, value: Any, old: Any = None) -> None:
        """`old` is None where there is no old value."""
        self._value = value
        self._old = old
        self._activations: dict[tuple[bool, bool], Any] = {}
        self._measure: tuple[int, int] | None = None
        self.subprocess_seconds = 0.0
        """Processor time of evaluations in other processes, with their start, since a caller last
        set this to 0.
        """

    def activation(self, *, extended: bool, optional_old: bool) -> Any:
        """The variables in the form that one of the library's environments needs."""
        found = self._activations.get((extended, optional_old))
        if found is None:
            try:
                found = environment(extended).Activation(self._variables(optional_old))
            except RuntimeError as error:
                raise RuleFailed(_runtime_text(str(error))) from error
            self._activations[extended, optional_old] = found
        return found

    def evaluated_in_subprocess(self, text: str, *, extended: bool, optional_old: bool) -> Any:
        """The result of a rule, computed in a process of its own. Raises RuleFailed,
        LoopBudgetExceeded.
        """
        if is_on_loop():
            raise LoopBudgetExceeded
        self.subprocess_seconds += SUBPROCESS_START_SECONDS
        try:
            found = evaluate_in_subprocess(
                text, extended=extended, variables=self._variables(optional_old)
            )
        except TooExpensive:
            self.subprocess_seconds += CPU_SECONDS_MAX
            raise RuleFailed(
                "cost limit exceeded: the rule takes too long for this object; make the object"
                " smaller"
            ) from None
        self.subprocess_seconds += found.cpu_seconds
        if found.error:
            raise RuleFailed(_runtime_text(found.error))
        return found.value

    def _variables(self, optional_old: bool) -> dict[str, Any]:
        old = ({} if self._old is None else {"value": self._old}) if optional_old else self._old
        return {"self": self._value, "oldSelf": old}

    @property
    def measure(self) -> tuple[int, int]:
        """Approximate number of bytes of the value, and of its parts."""
        if self._measure is None:
            one, other = _measured(self._value), _measured(self._old)
            self._measure = (one[0] + other[0], one[1] + other[1])
        return self._measure


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled rule."""

    uses_old: bool
    _text: RuleText
    _extended: bool
    _optional_old: bool
    _expression: Any

    def holds(self, values: Values) -> bool:
        """Whether the rule is true. Raises RuleFailed."""
        return self._evaluate(values) is True

    def text(self, values: Values) -> str | None:
        """The text that a message expression evaluates to; None if it is not a text. Raises
        RuleFailed.
        """
        found = self._evaluate(values)
        return found if isinstance(found, str) else None

    def _evaluate(self, values: Values) -> Any:
        cost = self._text.cost
        size, count = values.measure
        if cost.bytes_max(size, count, ITERATIONS_MAX) > BYTES_MAX:
            raise RuleFailed(
                "cost limit exceeded: the rule may build a longer text than the API allows; make"
                " the object smaller"
            )
        if cost.seconds_max(size, count, ITERATIONS_MAX) > INLINE_SECONDS_MAX:
            return values.evaluated_in_subprocess(
                self._text.text, extended=self._extended, optional_old=self._optional_old
            )
        activation = values.activation(extended=self._extended, optional_old=self._optional_old)
        try:
            found = self._expression.eval(activation)
            if found.type().name() == _ERROR:
                raise RuleFailed(_runtime_text(str(found.value())))
            return found.value()
        except RuntimeError as error:
            raise RuleFailed(_runtime_text(str(error))) from error


@lru_cache(maxsize=PROGRAMS_MAX)
def compiled(text: str, *, optional_old: bool = False) -> Program:
    """The program of a rule or message expression. Raises InvalidRule."""
    try:
        rule = read_rule(text, optional_old=optional_old)
    except ValueError as error:
        raise InvalidRule(str(error)) from error
    for extended in (False, True):
        try:
            return Program(
                rule.uses_old,
                rule,
                extended,
                optional_old,
                environment(extended).compile(rule.text),
            )
        except RuntimeError as error:
            # The first attempt also fails if only an extension is missing.
            if extended:
                raise InvalidRule(_compile_text(str(error))) from error
    raise AssertionError("the second attempt returns or raises")


def rule_problem(text: str) -> str | None:
    """The compiler's error for the text of a rule; None if it compiles."""
    try:
        compiled(text)
    except InvalidRule as error:
        return str(error)
    return None


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern of a schema (RE2, as in Kubernetes: linear in the text whatever the
    pattern) is found in the text.
    """
    found = _pattern().eval(data={"self": text, "pattern": pattern})
    return found.type().name() != _ERROR and found.value() is True


def pattern_problem(pattern: str) -> str | None:
    """Why a pattern is refused; None if it can be used."""
    if len(pattern) > PATTERN_MAX:
        return f"{len(pattern)} characters; a pattern may have {PATTERN_MAX}"
    if pattern_weight(pattern) > WEIGHT_MAX:
        return (
            f"it repeats too much: about {pattern_weight(pattern)} instructions; a pattern may have"
            f" {WEIGHT_MAX}"
        )
    found = _pattern().eval(data={"self": "", "pattern": pattern})
    return _compile_text(str(found.value())) if found.type().name() == _ERROR else None


@cache
def _pattern() -> Any:
    from cel_expr_python import cel

    return cel.NewEnv(variables={"self": cel.Type.STRING, "pattern": cel.Type.STRING}).compile(
        "self.matches(pattern)"
    )


def _measured(value: Any) -> tuple[int, int]:
    """Bytes and parts of a JSON value, counted without recursion."""
    size = count = 0
    waiting = [value]
    while waiting:
        each = waiting.pop()
        count += 1
        if isinstance(each, str | bytes):
            size += len(each)
        elif isinstance(each, Mapping):
            size += sum(map(len, each))
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
        else:
            size += 8
    return size, count


def _compile_text(error: str) -> str:
    return error.removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]").strip()


def _runtime_text(error: str) -> str:
    """The library's error as the API server words it, where the API server has such an error."""
    _, _, reason = error.partition(": ")
    reason = reason or error
    if "Key not found in map" in reason:
        return f"no such key: {reason.rpartition(':')[2].strip().strip(chr(34))}"
    if reason.startswith("Index error"):
        return f"index out of bounds: {reason.partition('index=')[2].partition(' ')[0]}"
    if "No matching overloads found" in reason:
        return "no such overload"
    if "divide by zero" in reason:
        return "division by zero"
    if "Iteration budget exceeded" in reason:
        return "cost limit exceeded"
    if reason.startswith("Non-CEL value type") or "out of range for" in reason:
        return "a number is out of range"
    return reason.partition(" [")[0]
