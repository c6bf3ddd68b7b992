"""Compile and evaluate CESQL 1.0, the CloudEvents SQL Expression Language.

Compile an expression once and evaluate it for each event. An expression is evaluated over the
context attributes of an event: a mapping from name to value that includes `specversion`. CESQL has
no access to the data of an event.

>>> from headrace import cesql
>>> expression = cesql.compile("type LIKE 'order.%' AND INT(amount) >= 1000")
>>> order = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created"}
>>> expression.evaluate({**order, "amount": "1500"}).value
True

An evaluation never raises. It returns a value and, if something went wrong, the problem.

>>> result = expression.evaluate(order)
>>> result.value, result.problem.kind
(False, <ErrorKind.MISSING_ATTRIBUTE: 'missingAttribute'>)

This module imports only the standard library. Its names are stable: a change that breaks callers
requires a new major version.
"""

from headrace.domain.cesql import (
    BUILT_IN,
    DEPTH_MAX,
    EXPRESSION_LENGTH_MAX,
    NODES_MAX,
    STRING_LENGTH_MAX,
    Attributes,
    ErrorKind,
    EvaluationError,
    Expression,
    Function,
    Functions,
    ParseError,
    Problem,
    Result,
    Type,
    with_functions,
)
from headrace.domain.cesql import compile_expression as _compile
from headrace.domain.event import Value

__all__ = [
    "BUILT_IN",
    "DEPTH_MAX",
    "EXPRESSION_LENGTH_MAX",
    "NODES_MAX",
    "STRING_LENGTH_MAX",
    "Attributes",
    "ErrorKind",
    "EvaluationError",
    "Expression",
    "Function",
    "Functions",
    "ParseError",
    "Problem",
    "Result",
    "Type",
    "Value",
    "compile",
    "evaluate",
    "with_functions",
]


def compile(text: str, functions: Functions = BUILT_IN) -> Expression:
    """Compile an expression. The result holds no state and can be shared by threads.

    `functions` is the table of functions that the expression may call. `with_functions` creates a
    table that also contains your own functions. A call to an unknown function compiles, and fails
    when it is evaluated (CESQL 3.5).

    Raises `ParseError`, with the position, for text that is not an expression or exceeds a limit.

    >>> compile("LENGTH(subject) > 3").attribute_names
    ('subject',)
    >>> compile("type = ")
    Traceback (most recent call last):
    headrace.domain.cesql.errors.ParseError: ...
    """
    return _compile(text, functions)


def evaluate(text: str, attributes: Attributes, functions: Functions = BUILT_IN) -> Result:
    """Compile and evaluate an expression that is used only once.

    Raises `ParseError`. An evaluation error is part of the result.

    >>> evaluate("UPPER(source)", {"source": "/shop"}).value
    '/SHOP'
    """
    return _compile(text, functions).evaluate(attributes)
