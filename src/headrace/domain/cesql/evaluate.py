"""Compile a tree to closures once, so that an evaluation is one call per event.

Every closure takes the attributes of an event and returns a value, or raises `EvaluationError`. An
operator with a failed operand has no result, so the exception propagates to `Expression.evaluate`,
which replaces it with the zero value of the outermost type. This is the fail-fast mode of CESQL
1.0, 4.1, and the rule for missing attributes of 3.2. Work that does not depend on the event is done
at compile time: omitting casts that the types make unnecessary, and preparing patterns, lists of
literals and functions.
"""

from collections.abc import Callable, Mapping
from operator import eq, ge, gt, le, lt, ne
from typing import NamedTuple

from headrace.domain.cesql.arithmetic import ARITHMETIC
from headrace.domain.cesql.budget import CALL_STEPS, STEPS_MAX, BudgetExceeded, Metered
from headrace.domain.cesql.casts import (
    CASTS,
    ZERO,
    Type,
    to_boolean,
    to_integer,
    to_string,
    type_of,
)
from headrace.domain.cesql.cost import steps_at_worst_of
from headrace.domain.cesql.errors import ErrorKind, EvaluationError, Problem
from headrace.domain.cesql.functions import (
    BUILT_IN,
    Function,
    Functions,
    argument_steps,
    find_function,
    result_steps,
)
from headrace.domain.cesql.like import MeteredMatcher, Patterns
from headrace.domain.cesql.nodes import (
    Attribute,
    Binary,
    Call,
    Connective,
    Exists,
    In,
    Like,
    Literal,
    Logic,
    Negate,
    Node,
    Not,
    Operator,
    attribute_names,
)
from headrace.domain.cesql.parser import parse
from headrace.domain.event import Value

Attributes = Mapping[str, Value]
"""The context attributes of an event by name, including `specversion`."""
Evaluator = Callable[[Attributes], Value]

_REQUIRED = frozenset({"specversion", "id", "source", "type"})
_EQUALITY: dict[Operator, bool] = {Operator.EQUAL: True, Operator.UNEQUAL: False}
_ORDER: dict[Operator, Callable[[int, int], bool]] = {
    Operator.LESS: lt,
    Operator.LESS_OR_EQUAL: le,
    Operator.GREATER: gt,
    Operator.GREATER_OR_EQUAL: ge,
}


class Result(NamedTuple):
    """The result of an evaluation: a value, and the problem if the evaluation failed."""

    value: Value
    problem: Problem | None


class Expression:
    """A compiled expression. It holds no state of an evaluation and can be shared by threads.

    Expressions with the same text, tree and functions are equal.
    """

    __slots__ = (
        "_functions",
        "_patterns",
        "attribute_names",
        "evaluate_or_raise",
        "node",
        "returns",
        "steps_max",
        "text",
    )

    def __init__(self, text: str, node: Node, functions: Functions) -> None:
        self._patterns = Patterns()
        self.steps_max = steps_at_worst_of(node, self._patterns)
        """The most steps that an evaluation can take (`headrace.domain.cesql.budget`)."""
        compiled = _compile(node, _CompileOptions(functions, self._patterns, metered=False))
        self.text = text
        self.node = node
        self.returns: Type | None = compiled.type
        """The type of the result. None if it is the type of an attribute, which is known only with
        an event.
        """
        self.attribute_names = tuple(dict.fromkeys(attribute_names(node)))
        """The attributes that the expression reads or tests, in the order of the text."""
        self._functions = functions
        self.evaluate_or_raise: Evaluator = (
            compiled.run if self.steps_max <= STEPS_MAX else _bounded(self.metered())
        )
        """A faster `evaluate` that returns only the value, and raises `EvaluationError` on failure.
        """

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Expression)
            and self.text == other.text
            and self.node == other.node
            and self._functions is other._functions
        )

    def __hash__(self) -> int:
        return hash(self.text)

    def evaluate(self, attributes: Attributes) -> Result:
        """Return the value for an event with these attributes, and the problem if there was one.

        Never raises.
        """
        try:
            return Result(self.evaluate_or_raise(attributes), None)
        except EvaluationError as error:
            own = error.value is not None and self._reaches_its_function(attributes)
            return Result(
                error.value if own and error.value is not None else ZERO[self.returns],
                error.problem,
            )

    def metered(self) -> Evaluator:
        """Compile the expression as a part of a larger evaluation.

        The returned function must be called with `Metered` attributes. It raises `EvaluationError`
        and `BudgetExceeded`.
        """
        return _compile(
            self.node, _CompileOptions(self._functions, self._patterns, metered=True)
        ).run

    def _reaches_its_function(self, attributes: Attributes) -> bool:
        """Return whether an error with a value can come from the outermost function itself.

        Otherwise it comes from a function among the arguments.
        """
        if not isinstance(self.node, Call):
            return False
        try:
            for argument in self.node.arguments:
                Expression("", argument, self._functions).evaluate_or_raise(attributes)
        except EvaluationError:
            return False
        return True


def compile_expression(text: str, functions: Functions = BUILT_IN) -> Expression:
    """Parse and compile an expression. Raises `ParseError`.

    An unknown function is not a parse error: the call fails when it is evaluated (3.5).
    """
    return Expression(text, parse(text), functions)


class _CompileOptions(NamedTuple):
    """How a tree is compiled."""

    functions: Functions
    patterns: Patterns
    metered: bool
    """Whether the attributes will be `Metered`, which counts the steps of expensive operations."""


class _Compiled(NamedTuple):
    """A closure and the type of its result; None if the type depends on the event."""

    run: Evaluator
    type: Type | None


def _compile(node: Node, way: _CompileOptions) -> _Compiled:
    match node:
        case Literal(value):
            return _Compiled(lambda attributes: value, type_of(value))
        case Attribute(name):
            return _Compiled(_attribute(name), None)
        case Exists(name):
            return _Compiled(_exists(name), Type.BOOLEAN)
        case Not(operand):
            boolean = _boolean(_compile(operand, way))
            return _Compiled(lambda attributes: not boolean(attributes), Type.BOOLEAN)
        case Negate(operand):
            zero = _Compiled(lambda attributes: 0, Type.INTEGER)
            return _arithmetic(Operator.SUBTRACT, zero, _compile(operand, way))
        case Binary(operator, left, right):
            return _binary(operator, _compile(left, way), _compile(right, way), right)
        case Logic():
            return _Compiled(_logic(node, way), Type.BOOLEAN)
        case Like(operand, pattern, negated):
            return _Compiled(_like(_compile(operand, way), pattern, negated, way), Type.BOOLEAN)
        case In(operand, members, negated):
            return _Compiled(_in(_compile(operand, way), members, negated, way), Type.BOOLEAN)
        case Call():
            return _call(node, way)


def _cast(compiled: _Compiled, target: Type | None) -> Evaluator:
    if target is None or compiled.type is target:
        return compiled.run
    cast, run = CASTS[target], compiled.run
    return lambda attributes: cast(run(attributes))


def _integer(compiled: _Compiled) -> Callable[[Attributes], int]:
    run = compiled.run
    return lambda attributes: to_integer(run(attributes))


def _boolean(compiled: _Compiled) -> Callable[[Attributes], bool]:
    run = compiled.run
    if compiled.type is Type.BOOLEAN:
        return run  # type: ignore[return-value]
    return lambda attributes: to_boolean(run(attributes))


def _attribute(name: str) -> Evaluator:
    problem = Problem(ErrorKind.MISSING_ATTRIBUTE, f"the event has no attribute {name}")

    def read(attributes: Attributes) -> Value:
        try:
            return attributes[name]
        except KeyError:
            raise EvaluationError(problem) from None

    return read


def _exists(name: str) -> Evaluator:
    if name in _REQUIRED:
        return lambda attributes: True
    return lambda attributes: name in attributes


def _binary(operator: Operator, left: _Compiled, right: _Compiled, right_node: Node) -> _Compiled:
    if operator in ARITHMETIC:
        return _arithmetic(operator, left, right)
    if operator in _ORDER:
        compare, x, y = _ORDER[operator], _integer(left), _integer(right)
        return _Compiled(lambda attributes: compare(x(attributes), y(attributes)), Type.BOOLEAN)
    if isinstance(right_node, Literal):
        return _Compiled(
            _equality_with(left, right_node.value, equal=_EQUALITY[operator]), Type.BOOLEAN
        )
    return _Compiled(_equality(left.run, right, equal=_EQUALITY[operator]), Type.BOOLEAN)


def _arithmetic(operator: Operator, left: _Compiled, right: _Compiled) -> _Compiled:
    compute, x, y = ARITHMETIC[operator], _integer(left), _integer(right)
    return _Compiled(lambda attributes: compute(x(attributes), y(attributes)), Type.INTEGER)


def _equality(left: Evaluator, right: _Compiled, *, equal: bool) -> Evaluator:
    """Compile `=` or `!=`, which are defined for each type.

    The type of the right operand decides which one is meant, and the left operand is cast to it
    (3.7).
    """
    compare = eq if equal else ne
    run, known = right.run, right.type

    def compared(attributes: Attributes) -> Value:
        first, second = left(attributes), run(attributes)
        cast = CASTS[known or type_of(second)]
        result: bool = compare(cast(first), second)
        return result

    return compared


def _equality_with(left: _Compiled, constant: Value, *, equal: bool) -> Evaluator:
    """Compile `=` or `!=` with a literal on the right, as in nearly all filters."""
    run, cast, kind = left.run, CASTS[type_of(constant)], type(constant)
    if equal:

        def equals(attributes: Attributes) -> bool:
            value = run(attributes)
            return (value if value.__class__ is kind else cast(value)) == constant

        return equals

    def differs(attributes: Attributes) -> bool:
        value = run(attributes)
        return (value if value.__class__ is kind else cast(value)) != constant

    return differs


def _logic(node: Logic, way: _CompileOptions) -> Evaluator:
    first = _boolean(_compile(node.first, way))
    rest = [(connective, _boolean(_compile(operand, way))) for connective, operand in node.rest]
    match rest:
        case [(Connective.AND, other)]:
            return lambda attributes: first(attributes) and other(attributes)
        case [(Connective.OR, other)]:
            return lambda attributes: first(attributes) or other(attributes)

    def chain(attributes: Attributes) -> Value:
        value = first(attributes)
        for connective, operand in rest:
            if connective is Connective.AND:
                value = value and operand(attributes)
            elif connective is Connective.OR:
                value = value or operand(attributes)
            else:
                value = value != operand(attributes)
        return value

    return chain


def _like(operand: _Compiled, pattern: str, negated: bool, way: _CompileOptions) -> Evaluator:
    run = operand.run
    if way.metered:
        return _metered_like(run, way.patterns[pattern].metered_matcher(), negated)
    matches = way.patterns[pattern].matcher()
    if negated:
        return lambda attributes: not matches(to_string(run(attributes)))
    return lambda attributes: matches(to_string(run(attributes)))


def _metered_like(run: Evaluator, matches: MeteredMatcher, negated: bool) -> Evaluator:
    def like(attributes: Metered) -> Value:
        return matches(to_string(run(attributes)), attributes) is not negated

    return like  # type: ignore[return-value] # only called with Metered attributes


def _in(
    operand: _Compiled, members: tuple[Node, ...], negated: bool, way: _CompileOptions
) -> Evaluator:
    """Compile IN and NOT IN.

    Members are cast to the type of the left value (3.4.5) and tested from left to right until one
    is equal.
    """
    run = operand.run
    compiled = [_compile(member, way).run for member in members]
    literals = [member.value for member in members if isinstance(member, Literal)]
    spelled = frozenset(map(to_string, literals)) if len(literals) == len(members) else None

    def contains(attributes: Attributes) -> Value:
        value = run(attributes)
        if spelled is not None and value.__class__ is str:
            return (value in spelled) is not negated
        cast = CASTS[type_of(value)]
        return any(cast(member(attributes)) == value for member in compiled) is not negated

    return contains


def _call(node: Call, way: _CompileOptions) -> _Compiled:
    function = find_function(way.functions, node.name, len(node.arguments))
    if function is None:
        return _Compiled(_unknown_function(node, way), Type.BOOLEAN)
    arguments = [
        _cast(_compile(argument, way), function.parameter(index))
        for index, argument in enumerate(node.arguments)
    ]
    apply = _metered_application if way.metered else _application
    return _Compiled(apply(function, arguments), function.returns)


def _application(function: Function, arguments: list[Evaluator]) -> Evaluator:
    run = function.run if function in BUILT_IN.get(function.name, ()) else _guarded(function)
    match arguments:
        case [only]:
            return lambda attributes: run(only(attributes))
        case [first, second]:
            return lambda attributes: run(first(attributes), second(attributes))
        case _:
            return lambda attributes: run(*[argument(attributes) for argument in arguments])


def _metered_application(function: Function, arguments: list[Evaluator]) -> Evaluator:
    name = function.name
    run = function.run if function in BUILT_IN.get(name, ()) else _guarded(function)

    def apply(attributes: Metered) -> Value:
        values = [argument(attributes) for argument in arguments]
        attributes.spend(CALL_STEPS + sum(argument_steps(name, value) for value in values))
        result: Value = run(*values)
        if isinstance(result, str):
            attributes.spend(result_steps(len(result)))
        return result

    return apply  # type: ignore[return-value] # only called with Metered attributes


def _bounded(run: Evaluator) -> Evaluator:
    def evaluate(attributes: Attributes) -> Value:
        try:
            return run(Metered(attributes))
        except BudgetExceeded as error:
            raise EvaluationError(error.problem) from None

    return evaluate


def _guarded(function: Function) -> Callable[..., Value]:
    """Wrap a user-defined function: any exception is a functionEvaluation error (3.5.3)."""

    def run(*arguments: Value) -> Value:
        try:
            return function.run(*arguments)
        except EvaluationError:
            raise
        except Exception as error:
            reason = f"{function.name} failed: {type(error).__name__}"
            problem = Problem(ErrorKind.FUNCTION_EVALUATION, reason, reason)
            raise EvaluationError(problem, ZERO[function.returns]) from error

    return run


def _unknown_function(node: Call, way: _CompileOptions) -> Evaluator:
    reason = (
        f"{node.name} does not take {len(node.arguments)} arguments"
        if node.name in way.functions
        else f"there is no function {node.name}"
    )
    problem = Problem(ErrorKind.MISSING_FUNCTION, reason)

    def fail(attributes: Attributes) -> Value:
        raise EvaluationError(problem)

    return fail
