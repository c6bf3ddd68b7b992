"""The CEL environment of validation rules: the variables and functions that a rule may use.

`cel` and the process that `cel_process` starts evaluate rules in the same environment. (The library
is imported at first use: it costs 10 MB of memory.)
"""

from functools import cache
from itertools import pairwise
from typing import Any

from headrace_apiserver.schemas.formats import has_format


@cache
def environment(extended: bool) -> Any:
    """The variables and functions that a rule may use; `extended` adds the functions that are
    rarely used. Loads the library.
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
