"""CESQL 1.0.0, the CloudEvents SQL Expression Language: compile text to an expression.

`lexer` and `parser` build a tree of `nodes`. `evaluate` compiles the tree to closures with `casts`,
`arithmetic`, `like` and `functions`. `printer` turns a tree back into text, and `explain` finds the
part of an expression that decided a result. Trigger filters are in `headrace.domain.filters`, which
uses this package.
"""

from headrace.domain.cesql.casts import Type
from headrace.domain.cesql.errors import (
    DEPTH_MAX,
    EXPRESSION_LENGTH_MAX,
    NODES_MAX,
    STRING_LENGTH_MAX,
    ErrorKind,
    EvaluationError,
    ParseError,
    Problem,
)
from headrace.domain.cesql.evaluate import Attributes, Expression, Result, compile_expression
from headrace.domain.cesql.explain import deciding_part
from headrace.domain.cesql.functions import BUILT_IN, Function, Functions, with_functions
from headrace.domain.cesql.parser import parse
from headrace.domain.cesql.printer import render

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
    "compile_expression",
    "deciding_part",
    "parse",
    "render",
    "with_functions",
]
