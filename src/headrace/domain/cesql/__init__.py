"""CESQL, the CloudEvents SQL Expression Language, version 1.0.0: text in, a compiled expression
out.

`lexer` and `parser` make a tree of `nodes`; `evaluate` makes closures of the tree with the help of
`casts`, `arithmetic`, `like` and `functions`; `printer` turns it into text again, and `explain`
finds the part that decided a result. Filters are in `headrace.domain.filters`, which uses this
package.
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
