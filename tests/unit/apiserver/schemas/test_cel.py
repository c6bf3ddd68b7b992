"""CEL rules: the spellings of Kubernetes, the bounds of evaluation, and the cost of a schema
without rules.
"""

import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import pytest

from headrace.codec.objects import ObjectTooLarge
from headrace_apiserver.schemas import cel_process
from headrace_apiserver.schemas import rules as checked
from headrace_apiserver.schemas.cel import (
    InvalidRule,
    RuleFailed,
    Values,
    compiled,
    matches,
    pattern_problem,
    rule_problem,
)
from headrace_apiserver.schemas.cel_text import RULE_MAX, read_rule
from headrace_apiserver.schemas.defaulting import defaulted
from headrace_apiserver.schemas.rule_tree import rule_tree
from headrace_apiserver.schemas.rules import broken_rules
from headrace_apiserver.schemas.schema import validate


def _holds(rule: str, value: Any, old: Any = None, *, optional_old: bool = False) -> bool:
    return compiled(rule, optional_old=optional_old).holds(Values(value, old))


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("self.__namespace__ == 'a' && has(self.__namespace__)", {"namespace": "a"}),
        ("self.a__dash__b == 1", {"a-b": 1}),
        ("self.a__dot__b == 1 && self.c__slash__d == 2", {"a.b": 1, "c/d": 2}),
        ("self.__underscores__a == 1", {"__a": 1}),
        ("self.x == '.__namespace__'", {"x": ".__namespace__"}),
        ("self.x == r'\\d' // oldSelf + '", {"x": "\\d"}),
        (
            "self.items.all(e, e.startsWith('a')) && self.items.exists_one(e, e == 'ab')",
            {"items": ["aa", "ab"]},
        ),
        ("self.x.split(',').size() == 2 && self.x.indexOf(',') == 1", {"x": "a,b"}),
        ("self.?x.orValue('none') == 'none'", {}),
        ("isURL(self.x) && !isURL('a b')", {"x": "https://example.com"}),
        ("self.x.isSorted() && ![2, 1].isSorted()", {"x": [1, 2]}),
        ("duration(self.x) > duration('1s')", {"x": "1m"}),
        ("self.x.matches('^a+$')", {"x": "aaa"}),
    ],
)
def test_rules_of_kubernetes_hold(rule: str, value: Any) -> None:
    """Escaped names, macros, optional values and extension functions mean the same as in a
    cluster.
    """
    assert _holds(rule, value)
    assert rule_problem(rule) is None


@pytest.mark.parametrize(
    "rule",
    [
        "self.",
        "self.nothing()",
        "foo == 1",
        "'a' == 1",
        "(" * 100 + "1" + ")" * 100,
        "x" * (RULE_MAX + 1),
    ],
)
def test_invalid_rules_are_reported(rule: str) -> None:
    """A rule that does not compile, because of grammar, names, types or size, is found when the
    definition is applied.
    """
    assert rule_problem(rule)
    with pytest.raises(InvalidRule):
        compiled(rule)


@pytest.mark.parametrize(
    ("uses", "rule"),
    [(True, "self == oldSelf"), (False, "self.oldSelf == 'oldSelf'"), (False, "true // oldSelf")],
)
def test_transition_rules_are_distinguished_from_others(uses: bool, rule: str) -> None:
    """A transition rule is one that uses `oldSelf` itself."""
    assert uses == read_rule(rule).uses_old


def test_optional_old_value() -> None:
    """A rule with `optionalOldSelf` sees whether there was a value."""
    rule = "oldSelf.hasValue() ? self >= oldSelf.value() : self == 1"
    assert [True, False, True, False] == [
        _holds(rule, new, old, optional_old=True)
        for new, old in ((1, None), (2, None), (5, 4), (3, 4))
    ]


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ("no such key: x", "self.x == 1"),
        ("index out of bounds: 3", "self.list[3] == 1"),
        ("no such overload", "self.list < 1"),
        ("division by zero", "1 / self.zero == 1"),
    ],
)
def test_failures_have_the_messages_of_the_server(message: str, rule: str) -> None:
    """The message says why a rule cannot be evaluated, as in a cluster."""
    with pytest.raises(RuleFailed, match=f"^{message}$"):
        _holds(rule, {"list": [], "zero": 0})


def test_loops_are_bounded() -> None:
    """Nested loops over a large object end with an error and do not block the server."""
    with pytest.raises(RuleFailed, match="cost limit"):
        _holds("self.all(a, self.all(b, self.all(c, a + b + c > 0)))", list(range(1, 500)))


@pytest.mark.parametrize(
    "rule",
    [
        "self" + ".map(a, a + a + a + a)" * 8 + ".size() > 0",
        "self.map(a, self.map(b, a + b)).size() > 0",
        "self[0].replace('a', self[1]).size() > 0",
    ],
)
def test_memory_is_bounded(rule: str) -> None:
    """A rule that joins texts is refused before they grow: a one-line rule must not need
    gigabytes.
    """
    with pytest.raises(RuleFailed, match="cost limit"):
        _holds(rule, ["a" * 20_000] * 200)


def test_small_values_may_be_joined() -> None:
    """The bound does not affect realistic rules."""
    assert _holds("self.map(a, a + '/' + a).join(',').size() > 0", ["a", "b"])


def test_patterns_are_linear() -> None:
    """A pattern on which a backtracking matcher would run without end takes no time."""
    assert not matches("^(a+)+$", "a" * 50_000 + "b")
    assert not matches("^[a-z]+$", "abc\n")
    assert pattern_problem("(") is not None
    assert pattern_problem("^a$") is None


_LIST = {
    "type": "array",
    "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]},
}
_SPENT = (
    'Invalid value: "integer": validation failed due to running out of cost budget, no further'
    " validation rules will be run"
)


def test_evaluations_of_a_document_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long list with a rule on every entry stops with a cause."""
    monkeypatch.setattr(checked, "EVALUATIONS_MAX", 10)
    found = broken_rules(
        {"list": [1] * 20}, rule_tree({"properties": {"list": _LIST}, "type": "object"})
    )
    assert [("list[10]", _SPENT)] == [(cause.field, cause.message) for cause in found]


def test_processor_time_of_a_document_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules with loops stop with one cause when their time is used up."""
    monkeypatch.setattr(checked, "CPU_SECONDS_MAX", 0.0)
    found = broken_rules(
        {"list": [1] * 20}, rule_tree({"properties": {"list": _LIST}, "type": "object"})
    )
    assert [("list[0]", _SPENT)] == [(cause.field, cause.message) for cause in found]


def test_old_values_are_found_where_they_have_an_identity() -> None:
    """Fields, keys of maps and entries of map lists have an old value; entries of other lists have
    none.
    """
    frozen = {
        "type": "string",
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "frozen"}],
    }
    entry = {"type": "object", "properties": {"name": {"type": "string"}, "v": frozen}}
    tree = rule_tree(
        {
            "properties": {
                "field": frozen,
                "map": {"additionalProperties": frozen},
                "keyed": {
                    "items": entry,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                },
                "plain": {"items": frozen},
            }
        }
    )
    old = {
        "field": "a",
        "map": {"k": "a"},
        "keyed": [{"name": "x", "v": "a"}, {"name": "y", "v": "a"}],
        "plain": ["a"],
    }
    new = {
        "field": "b",
        "map": {"k": "b", "l": "b"},
        "keyed": [{"name": "y", "v": "b"}, {"name": "z", "v": "b"}],
        "plain": ["b"],
    }
    assert ["field", "map[k]", "keyed[0].v"] == [
        cause.field for cause in broken_rules(new, tree, old=old)
    ]
    assert [] == broken_rules(new, tree)


def test_values_have_the_types_of_their_schema() -> None:
    """A number without a fraction is a double and base64 is bytes when a rule compares them."""
    schema = {
        "type": "object",
        "properties": {"n": {"type": "number"}, "b": {"type": "string", "format": "byte"}},
        "x-kubernetes-validations": [{"rule": "type(self.n) == double && self.b == b'abc'"}],
    }
    assert [] == broken_rules(
        {"spec": {"n": 2, "b": "YWJj"}}, rule_tree({"properties": {"spec": schema}})
    )


def test_rules_at_the_root_see_only_the_name_of_the_metadata() -> None:
    """Labels and annotations are hidden, as they are in a cluster, so that a definition means the
    same in both.
    """
    tree = rule_tree(
        {
            "type": "object",
            "x-kubernetes-validations": [
                {"rule": "has(self.metadata.labels)", "message": "hidden"}
            ],
        }
    )
    found = broken_rules({"metadata": {"name": "a", "labels": {"b": "c"}}}, tree)
    assert [("<nil>", 'Invalid value: "object": hidden')] == [
        (cause.field, cause.message) for cause in found
    ]


def test_message_expression_that_fails_leaves_the_message() -> None:
    """The rule is broken nevertheless, and its fixed message is used."""
    stated = {"rule": "false", "message": "fixed", "messageExpression": "self.nothing"}
    tree = rule_tree(
        {"properties": {"spec": {"type": "object", "x-kubernetes-validations": [stated]}}}
    )
    assert ['Invalid value: "object": fixed'] == [
        cause.message for cause in broken_rules({"spec": {}}, tree)
    ]


def test_library_is_loaded_by_the_first_rule() -> None:
    """A process that admits nothing with a rule does not load the library."""
    program = (
        "import sys, headrace_apiserver.admission.admit as a; assert 'cel_expr_python' not in"
        " sys.modules; from headrace_apiserver.schemas.cel import rule_problem as p; assert"
        " p('true') is None; assert 'cel_expr_python.cel' in sys.modules; assert not any('ext_' in"
        " name for name in sys.modules if 'cel_expr' in name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("self.text.matches(self.pattern)", {"text": "a" * 75_000, "pattern": "a?" * 37_500 + "b"}),
        (
            "matches(self.text, self.pattern)",
            {"text": "a" * 75_000, "pattern": "(a?){1000}" * 7_000},
        ),
        ("self.text.matches(r'" + "(a?){1000}" * 4 + "b')", {"text": "a" * 200_000}),
        (
            "self.text.matches('a' + self.pattern)",
            {"text": "a" * 75_000, "pattern": "a?" * 37_500 + "b"},
        ),
        (
            "self.list.all(x, " + " && ".join(["self.list == self.list"] * 200) + ")",
            {"list": list(range(9_000))},
        ),
        (
            "self.list.all(x, " + " && ".join(["x in self.list"] * 400) + ")",
            {"list": list(range(9_000))},
        ),
        (
            "self.list.all(x, self.text.size() > 0 && self.text.size() > 1)",
            {"list": list(range(9_000)), "text": "é" * 120_000},
        ),
        (
            "self.text.split('').all(x, self.text.contains(self.part))",
            {"text": "a" * 9_000, "part": "a" * 4_000 + "b"},
        ),
        ("self.text.split('').all(x, self.text.lowerAscii() != x)", {"text": "A" * 9_900}),
        ("'" + "a" * 8_000 + "'.matches(r'" + "(a?){1000}" * 10 + "b')", {}),
        (
            "'"
            + "a" * 8_000
            + "'.replace('a', '"
            + "b" * 7_900
            + "').replace('b', 'cc').size() > 0",
            {},
        ),
    ],
)
def test_time_is_bounded_within_one_operation(rule: str, value: Any) -> None:
    """Large texts with large patterns, and scans in loops: evaluations of seconds to hours are
    stopped, and do not run in the controller's process.
    """
    begun, wall = time.thread_time(), time.monotonic()
    with suppress(RuleFailed):
        _holds(rule, value)
    assert time.thread_time() - begun < 1.0
    # The other process ends by its own processor time; it may have to wait for a core.
    assert time.monotonic() - wall < 30.0


def test_an_expensive_rule_is_refused_by_its_cost() -> None:
    """The message names the cost, and no further rule is blamed."""
    with pytest.raises(
        RuleFailed, match="cost limit exceeded: the rule takes too long for this object"
    ):
        _holds(
            "self.text.matches(self.pattern)",
            {"text": "a" * 75_000, "pattern": "a?" * 37_500 + "b"},
        )


def test_a_rule_that_only_could_be_expensive_is_evaluated() -> None:
    """A rule is not refused because its upper bound is high: it is evaluated in another process,
    with the same result.
    """
    value = {"list": [{"name": f"n{number}", "raw": b"\x00", "at": 1.5} for number in range(3_000)]}
    assert _holds("self.list.all(x, self.list[0] != x || x.name == 'n0')", value)
    assert not _holds("self.list.all(x, x != self.list[1])", value)
    assert (
        compiled("self.list.all(x, x.at == self.list[0].at) ? 'yes' : 'no'").text(Values(value))
        == "yes"
    )
    with pytest.raises(RuleFailed, match=r"^no such key: y$"):
        _holds("self.list.all(x, x == x.y)", value)
    assert _holds("self.text.matches(self.pattern)", {"text": "b" * 200, "pattern": "^b+$"})


def test_rules_over_long_lists_with_constants_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Realistic rules over long lists start no process."""
    monkeypatch.setattr(cel_process, "subprocess", None)
    value = {"list": [{"name": f"n{number}", "kind": "a"} for number in range(2_000)]}
    assert _holds(
        "self.list.all(x, x.name != '' && x.kind in ['a', 'b'] && x.name.startsWith('n'))", value
    )
    assert _holds("self.list.exists(x, x.name == 'n1999')", value)


@pytest.mark.parametrize("pattern", ["(a?){1000}" * 50, "a" * 5_000, "\\pL{900}"])
def test_patterns_that_are_too_large_are_refused_with_the_definition(pattern: str) -> None:
    """By length, or by weight after their repetitions are expanded; as a keyword and in a rule."""
    assert pattern_problem(pattern)
    if "a" * 5_000 != pattern:
        assert "too large" in str(rule_problem(f"self.matches(r'{pattern}')"))
        escaped = pattern.replace("\\", "\\\\")
        assert "too large" in str(rule_problem(f"self.matches('{escaped}')"))


def test_texts_times_patterns_of_a_document_are_bounded() -> None:
    """The patterns of a schema share a budget; beyond it the object is refused with that reason."""
    schema = {
        "type": "object",
        "properties": {
            "list": {"type": "array", "items": {"type": "string", "pattern": "^(a?){1000}b$"}}
        },
    }
    begun = time.thread_time()
    found = validate({"list": ["a" * 20_000] * 10}, schema, matches=matches)
    assert time.thread_time() - begun < 5.0
    assert "cost budget exceeded" in found[-1].message
    small = {
        "type": "object",
        "properties": {
            "list": {"type": "array", "items": {"type": "string", "pattern": "^[a-z0-9]+$"}}
        },
    }
    assert [] == validate({"list": ["a1"] * 5_000}, small, matches=matches)


def test_defaults_are_bounded() -> None:
    """A long default for each entry of a long list does not fill the memory."""
    schema = {
        "properties": {
            "list": {"type": "array", "items": {"properties": {"a": {"default": "x" * 10_000}}}}
        }
    }
    assert len(defaulted({"list": [{}] * 50}, schema)["list"][49]["a"]) == 10_000
    with pytest.raises(ObjectTooLarge, match="defaults"):
        defaulted({"list": [{}] * 10_000}, schema)


def test_choices_and_required_fields_count_as_work() -> None:
    """An enum or a list of required fields of the maximal length is not checked for thousands of
    entries.
    """
    for keyword in (
        {"enum": list(range(60_000))},
        {"required": [f"f{number}" for number in range(60_000)]},
    ):
        begun = time.thread_time()
        found = validate(
            {"list": [{}] * 10_000}, {"properties": {"list": {"items": keyword}}}, matches=matches
        )
        assert time.thread_time() - begun < 5.0
        assert len("".join(cause.message for cause in found)) < 1_000_000


@pytest.mark.parametrize("pattern", ["a?" * 20_000 + "b", "a" * 100])
def test_processes_of_one_document_are_bounded(pattern: str) -> None:
    """Many entries with a rule that may be or is expensive start only a few processes, then the
    cost budget is used up.
    """
    items = {
        "type": "object",
        "x-kubernetes-validations": [{"rule": "self.text.matches(self.pattern)"}],
    }
    tree = rule_tree({"type": "object", "properties": {"list": {"type": "array", "items": items}}})
    entry = {"text": "a" * 40_000, "pattern": pattern}
    begun = time.monotonic()
    found = broken_rules({"list": [entry] * 100}, tree)
    assert time.monotonic() - begun < 60.0
    assert "running out of cost budget" in found[-1].message
    assert len(found) <= 10
