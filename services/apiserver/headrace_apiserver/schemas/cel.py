"""CEL for the rules of CRDs: compiled once, evaluated within bounds, its errors in the words of the
Kubernetes API server.

The library (Google's C++ one, see decision 0008) is loaded when the first rule or pattern is met,
and its extensions when a rule needs them, so that a controller without such rules does not pay 10
MB for them. It checks types where they are known, stops a rule after a number of loop turns and at
a nesting depth; what a rule may hold in memory, and how long it may take, is estimated here before
it runs (`cel_cost`), because texts joined in loops grow without a turn more, and one turn may match
a long text with a large pattern. What may take long runs in a process of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

from headrace_apiserver.schemas.cel_process import CPU_SECONDS_MAX, TooExpensive, evaluated_apart
from headrace_apiserver.schemas.cel_text import RuleText, read_rule
from headrace_apiserver.schemas.formats import has_format
from headrace_apiserver.schemas.loop_budget import LoopBudgetExceeded, is_on_loop
from headrace_apiserver.schemas.patterns import PATTERN_MAX, WEIGHT_MAX, pattern_weight

BYTES_MAX = 64 * 1024 * 1024
"""What one evaluation may hold in memory, by estimate."""
LOOP_TURNS_MAX = 10_000
"""The library's own bound on the turns of all loops of one evaluation."""
HERE_SECONDS_MAX = 0.1
"""Processor time, by estimate, up to which a rule is evaluated in this process."""
APART_SECONDS = 0.06
"""What the start of a process counts as, beside the processor time of the rule in it: a document's
rules may start a few.
"""
PROGRAMS_MAX = 4_096
_ERROR = "ERROR"
"""The library's type of a value that could not be computed."""


class InvalidRule(ValueError):
    """The text is no rule; the message is the compiler's."""


class RuleFailed(Exception):
    """The rule could not be evaluated for this value; the message says why, without the value."""


class Values:
    """What a rule sees: `self`, and `oldSelf` where there is one. Converted once for all rules of a
    value.
    """

    __slots__ = ("_activations", "_measure", "_old", "_value", "apart_seconds")

    def __init__(self, value: Any, old: Any = None) -> None:
        """`old` is None where there is no old value."""
        self._value = value
        self._old = old
        self._activations: dict[tuple[bool, bool], Any] = {}
        self._measure: tuple[int, int] | None = None
        self.apart_seconds = 0.0
        """Processor time that evaluations in other processes count as, since somebody last set this
        to 0.
        """

    def activation(self, *, extended: bool, optional_old: bool) -> Any:
        """The library's form of the variables for one of its environments."""
        found = self._activations.get((extended, optional_old))
        if found is None:
            try:
                found = environment(extended).Activation(self._variables(optional_old))
            except RuntimeError as error:
                raise RuleFailed(_runtime_text(str(error))) from error
            self._activations[extended, optional_old] = found
        return found

    def evaluated_apart(self, text: str, *, extended: bool, optional_old: bool) -> Any:
        """What a rule makes of the value, computed in a process of its own. Raises RuleFailed,
        LoopBudgetExceeded.
        """
        if is_on_loop():
            raise LoopBudgetExceeded
        self.apart_seconds += APART_SECONDS
        try:
            found = evaluated_apart(
                text, extended=extended, variables=self._variables(optional_old)
            )
        except TooExpensive:
            self.apart_seconds += CPU_SECONDS_MAX
            raise RuleFailed(
                "cost limit exceeded: the rule takes too long for this object; make the object"
                " smaller"
            ) from None
        self.apart_seconds += found.cpu_seconds
        if found.error:
            raise RuleFailed(_runtime_text(found.error))
        return found.value

    def _variables(self, optional_old: bool) -> dict[str, Any]:
        old = ({} if self._old is None else {"value": self._old}) if optional_old else self._old
        return {"self": self._value, "oldSelf": old}

    @property
    def measure(self) -> tuple[int, int]:
        """About how many bytes the value has, in how many parts."""
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
        """Whether the rule is true; raises RuleFailed."""
        return self._evaluate(values) is True

    def text(self, values: Values) -> str | None:
        """The text that a message expression makes; None when it makes none."""
        found = self._evaluate(values)
        return found if isinstance(found, str) else None

    def _evaluate(self, values: Values) -> Any:
        cost = self._text.cost
        size, count = values.measure
        if cost.bytes_max(size, count, LOOP_TURNS_MAX) > BYTES_MAX:
            raise RuleFailed(
                "cost limit exceeded: the rule may join more text than the API holds for it; make"
                " the object smaller"
            )
        if cost.seconds_max(size, count, LOOP_TURNS_MAX) > HERE_SECONDS_MAX:
            return values.evaluated_apart(
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
            # The first attempt fails also where only an extension is missing.
            if extended:
                raise InvalidRule(_compile_text(str(error))) from error
    raise AssertionError("the second attempt returns or raises")


def rule_problem(text: str) -> str | None:
    """What is wrong with the text of a rule; None when it compiles."""
    try:
        compiled(text)
    except InvalidRule as error:
        return str(error)
    return None


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern of a schema (RE2, as Kubernetes reads it: linear in the text whatever the
    pattern) is found in the text.
    """
    found = _pattern().eval(data={"self": text, "pattern": pattern})
    return found.type().name() != _ERROR and found.value() is True


def pattern_problem(pattern: str) -> str | None:
    """What is wrong with a pattern; None when it can be matched."""
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


@cache
def environment(extended: bool) -> Any:
    """Variables and functions that a rule may use; `extended` with the functions that are rarely
    used. Loads the library.
    """
    from cel_expr_python import cel

    variables = {"self": cel.Type.DYN, "oldSelf": cel.Type.DYN}
    if not extended:
        return cel.NewEnv(variables=variables)
    from cel_expr_python.ext.ext_optional import ExtOptional
    from cel_expr_python.ext.ext_strings import ExtStrings

    return cel.NewEnv(
        variables=variables, extensions=[ExtOptional(), ExtStrings()], functions=_functions(cel)
    )


def _functions(cel: Any) -> list[Any]:
    """Functions that Kubernetes adds to CEL, as far as rules of Knative's kinds use them."""
    kinds = cel.Type
    url = cel.Overload(
        "string_is_url", return_type=kinds.BOOL, parameters=[kinds.STRING], impl=_is_url
    )
    ordered = cel.Overload(
        "list_is_sorted",
        return_type=kinds.BOOL,
        parameters=[kinds.List(kinds.DYN)],
        is_member=True,
        impl=_is_sorted,
    )
    return [cel.FunctionDecl("isURL", [url]), cel.FunctionDecl("isSorted", [ordered])]


def _is_url(text: str) -> bool:
    return has_format(text, "uri")


def _is_sorted(entries: Any) -> bool:
    plain = [each.value() if hasattr(each, "plain_value") else each for each in entries]
    return all(one <= other for one, other in pairwise(plain))


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
    """The library's error in the API server's words, as far as it has words for it."""
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
