"""Rules in CEL: Kubernetes' ways of writing them, their bounds, and what it costs to have none."""

import subprocess
import sys
from typing import Any

import pytest

from headrace_controller.api.schemas import rules as checked
from headrace_controller.api.schemas.cel import InvalidRule, RuleFailed, Values, compiled, matches, pattern_problem, rule_problem
from headrace_controller.api.schemas.cel_text import RULE_MAX, read_rule
from headrace_controller.api.schemas.rule_tree import rule_tree
from headrace_controller.api.schemas.rules import broken_rules


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
        ("self.items.all(e, e.startsWith('a')) && self.items.exists_one(e, e == 'ab')", {"items": ["aa", "ab"]}),
        ("self.x.split(',').size() == 2 && self.x.indexOf(',') == 1", {"x": "a,b"}),
        ("self.?x.orValue('none') == 'none'", {}),
        ("isURL(self.x) && !isURL('a b')", {"x": "https://example.com"}),
        ("self.x.isSorted() && ![2, 1].isSorted()", {"x": [1, 2]}),
        ("duration(self.x) > duration('1s')", {"x": "1m"}),
        ("self.x.matches('^a+$')", {"x": "aaa"}),
    ],
)
def test_rules_of_kubernetes_hold(rule: str, value: Any) -> None:
    """Escaped names, macros, optional values and extension functions mean what they mean in a cluster."""
    assert _holds(rule, value)
    assert rule_problem(rule) is None


@pytest.mark.parametrize("rule", ["self.", "self.nothing()", "foo == 1", "'a' == 1", "(" * 100 + "1" + ")" * 100, "x" * (RULE_MAX + 1)])
def test_texts_that_are_no_rules_are_told(rule: str) -> None:
    """What does not compile, by grammar, names, types or size, is found when the definition is applied."""
    assert rule_problem(rule)
    with pytest.raises(InvalidRule):
        compiled(rule)


@pytest.mark.parametrize(("uses", "rule"), [(True, "self == oldSelf"), (False, "self.oldSelf == 'oldSelf'"), (False, "true // oldSelf")])
def test_transition_rules_are_told_from_others(uses: bool, rule: str) -> None:
    """A rule about a change is one that names `oldSelf` itself."""
    assert uses == read_rule(rule).uses_old


def test_optional_old_value() -> None:
    """A rule with `optionalOldSelf` sees whether there was a value."""
    rule = "oldSelf.hasValue() ? self >= oldSelf.value() : self == 1"
    assert [True, False, True, False] == [_holds(rule, new, old, optional_old=True) for new, old in ((1, None), (2, None), (5, 4), (3, 4))]


@pytest.mark.parametrize(
    ("told", "rule"),
    [
        ("no such key: x", "self.x == 1"),
        ("index out of bounds: 3", "self.list[3] == 1"),
        ("no such overload", "self.list < 1"),
        ("division by zero", "1 / self.zero == 1"),
    ],
)
def test_failures_are_told_in_the_servers_words(told: str, rule: str) -> None:
    """A rule that cannot be evaluated says why, as it does in a cluster."""
    with pytest.raises(RuleFailed, match=f"^{told}$"):
        _holds(rule, {"list": [], "zero": 0})


def test_loops_are_bounded() -> None:
    """Loops within loops over a large object end with an error and not with a stopped server."""
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
    """Texts that grow by being joined are refused before they grow: a rule of a line must not take gigabytes."""
    with pytest.raises(RuleFailed, match="cost limit"):
        _holds(rule, ["a" * 20_000] * 200)


def test_small_values_may_be_joined() -> None:
    """The bound does not touch what real rules do."""
    assert _holds("self.map(a, a + '/' + a).join(',').size() > 0", ["a", "b"])


def test_patterns_are_linear() -> None:
    """A pattern that would take a backtracking matcher for ever takes no time."""
    assert not matches("^(a+)+$", "a" * 50_000 + "b")
    assert not matches("^[a-z]+$", "abc\n")
    assert pattern_problem("(") is not None
    assert pattern_problem("^a$") is None


_LIST = {"type": "array", "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}}
_SPENT = 'Invalid value: "integer": validation failed due to running out of cost budget, no further validation rules will be run'


def test_evaluations_of_a_document_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long list with a rule on every entry stops with a cause."""
    monkeypatch.setattr(checked, "EVALUATIONS_MAX", 10)
    found = broken_rules({"list": [1] * 20}, rule_tree({"properties": {"list": _LIST}, "type": "object"}))
    assert [("list[10]", _SPENT)] == [(cause.field, cause.message) for cause in found]


def test_processor_time_of_a_document_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that loop stop with a cause when they have had their time, once."""
    monkeypatch.setattr(checked, "CPU_SECONDS_MAX", 0.0)
    found = broken_rules({"list": [1] * 20}, rule_tree({"properties": {"list": _LIST}, "type": "object"}))
    assert [("list[0]", _SPENT)] == [(cause.field, cause.message) for cause in found]


def test_old_values_are_found_where_they_have_an_identity() -> None:
    """Fields, keys of maps and entries of map lists have a past; entries of other lists have none."""
    frozen = {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "frozen"}]}
    entry = {"type": "object", "properties": {"name": {"type": "string"}, "v": frozen}}
    tree = rule_tree(
        {
            "properties": {
                "field": frozen,
                "map": {"additionalProperties": frozen},
                "keyed": {"items": entry, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
                "plain": {"items": frozen},
            }
        }
    )
    old = {"field": "a", "map": {"k": "a"}, "keyed": [{"name": "x", "v": "a"}, {"name": "y", "v": "a"}], "plain": ["a"]}
    new = {"field": "b", "map": {"k": "b", "l": "b"}, "keyed": [{"name": "y", "v": "b"}, {"name": "z", "v": "b"}], "plain": ["b"]}
    assert ["field", "map[k]", "keyed[0].v"] == [cause.field for cause in broken_rules(new, tree, old=old)]
    assert [] == broken_rules(new, tree)


def test_values_have_the_types_of_their_schema() -> None:
    """A number written without a fraction is a double, base64 is bytes: rules compare them as such."""
    schema = {
        "type": "object",
        "properties": {"n": {"type": "number"}, "b": {"type": "string", "format": "byte"}},
        "x-kubernetes-validations": [{"rule": "type(self.n) == double && self.b == b'abc'"}],
    }
    assert [] == broken_rules({"spec": {"n": 2, "b": "YWJj"}}, rule_tree({"properties": {"spec": schema}}))


def test_rules_at_the_root_see_only_the_name_of_the_metadata() -> None:
    """Labels and annotations are hidden, as they are in a cluster, so that a definition means the same in both."""
    tree = rule_tree({"type": "object", "x-kubernetes-validations": [{"rule": "has(self.metadata.labels)", "message": "hidden"}]})
    found = broken_rules({"metadata": {"name": "a", "labels": {"b": "c"}}}, tree)
    assert [("<nil>", 'Invalid value: "object": hidden')] == [(cause.field, cause.message) for cause in found]


def test_message_expression_that_fails_leaves_the_message() -> None:
    """The rule is broken all the same, and its fixed text says so."""
    stated = {"rule": "false", "message": "fixed", "messageExpression": "self.nothing"}
    tree = rule_tree({"properties": {"spec": {"type": "object", "x-kubernetes-validations": [stated]}}})
    assert ['Invalid value: "object": fixed'] == [cause.message for cause in broken_rules({"spec": {}}, tree)]


def test_library_is_loaded_by_the_first_rule() -> None:
    """A process that admits nothing with a rule does not carry the library."""
    program = (
        "import sys, headrace_controller.api.schemas.admission as a; assert 'cel_expr_python' not in sys.modules; "
        "from headrace_controller.api.schemas.cel import rule_problem as p; assert p('true') is None; "
        "assert 'cel_expr_python.cel' in sys.modules; assert not any('ext_' in name for name in sys.modules if 'cel_expr' in name)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert (0, "") == (done.returncode, done.stderr)
