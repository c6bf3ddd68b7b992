"""Find the part of an expression that decided its result, to explain the result to users.

This part is the one alternative that was true, or the one condition that was not.
"""

from headrace.domain.cesql.evaluate import Attributes, Expression
from headrace.domain.cesql.functions import BUILT_IN, Functions
from headrace.domain.cesql.nodes import Connective, Logic, Node
from headrace.domain.cesql.printer import render


def deciding_part(
    expression: Expression, attributes: Attributes, functions: Functions = BUILT_IN
) -> Expression:
    """Return the smallest part that alone determines the result for this event.

    Returns the whole expression if all of it was needed. Descends through chains of AND (to the
    first operand that is not true) and of OR (to the first that is true or fails). Do not use it to
    filter events: it compiles expressions on every call.
    """
    node = expression.node
    while (
        isinstance(node, Logic)
        and (operand := _deciding_operand(node, attributes, functions)) is not None
    ):
        node = operand
    return expression if node is expression.node else Expression(render(node), node, functions)


def _deciding_operand(chain: Logic, attributes: Attributes, functions: Functions) -> Node | None:
    connectives = {connective for connective, _ in chain.rest}
    if len(connectives) != 1 or Connective.XOR in connectives:
        return None
    stops_at = Connective.OR in connectives
    for operand in (chain.first, *(operand for _, operand in chain.rest)):
        # A chain with one operand casts it to Boolean, as the whole chain does.
        value, problem = Expression("", Logic(operand, ()), functions).evaluate(attributes)
        if problem is not None or value is stops_at:
            return operand
    return None
