"""An index of filters: finds the filters that an event matches, at a cost that grows with these and
not with all filters.

Each filter has access paths: comparisons of an attribute with a text, of which at least one holds
for every event that matches. The filter is evaluated only for events for which one of them holds,
and these are found with lookups in dictionaries. A filter without access paths is evaluated for
every event.

The index calls `on_error` of each filter with the same problems as the filter alone. Therefore a
clause has access paths only if no clause before it can fail: in `[{cesql}, {exact}]` the expression
is evaluated, and may fail, even if the attribute differs. Filters with the same condition are
evaluated once, and so is an expression that is part of several filters.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Final, Generic, NamedTuple, TypeVar

from headrace.domain.cesql import Attributes, Problem
from headrace.domain.cesql.casts import to_string
from headrace.domain.filter_clauses import (
    AllOf,
    AnyOf,
    Cesql,
    Clause,
    Compare,
    Comparison,
    Explanation,
    LegacyAttribute,
    Negation,
    OnError,
    Predicate,
)
from headrace.domain.filters import Filter

K = TypeVar("K", bound=Hashable)

AFFIX_LENGTH_MAX: Final = 128
"""Characters of a prefix or suffix that are looked up. A longer one is then compared by its filter.

An event costs one lookup for each length that occurs, in time proportional to the length.
"""
_RANKS: Final = {Comparison.EXACT: 0, Comparison.PREFIX: 1, Comparison.SUFFIX: 2}
_RANK_OF_SEVERAL: Final = 3


class FilterIndex(Generic[K]):
    """Filters with a key each, such as those of all subscriptions of a channel.

    A change of a filter takes time proportional to its size. The functions `on_error` must not use
    the index.
    """

    __slots__ = (
        "_by_condition",
        "_by_key",
        "_evaluation",
        "_expressions",
        "_only",
        "_tables",
        "_unconditional",
        "_unindexed",
        "conditional",
    )

    def __init__(self) -> None:
        self._evaluation = _Evaluation()
        self.conditional = False
        """Whether a filter has a condition. If none has, `matching` needs no attributes."""
        self._by_key: dict[K, _Entry[K]] = {}
        self._only: tuple[Predicate, tuple[K]] | None = None
        """Predicate and key of the filter if there is one: no lookup is faster."""
        self._by_condition: dict[Clause, _Entry[K]] = {}
        self._expressions: dict[Cesql, _SharedCesql[K]] = {}
        self._unconditional: _Entry[K] = _Entry(None, None, (), self._evaluation)
        self._unindexed: dict[_Entry[K], None] = {}
        self._tables: dict[str, _Table[K]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def add(self, key: K, filter: Filter) -> None:
        """Add a filter. It replaces an earlier filter with this key."""
        if key in self._by_key:
            self.remove(key)
        entry = self._unconditional if filter.root is None else self._entry(filter.root)
        entry.filters[key] = filter
        entry.keys = None
        self._by_key[key] = entry
        self._changed()

    def remove(self, key: K) -> None:
        """Remove the filter with this key. Raises KeyError if there is none."""
        entry = self._by_key.pop(key)
        del entry.filters[key]
        entry.keys = None
        if not entry.filters and entry.condition is not None:
            self._drop(entry, entry.condition)
        self._changed()

    def matching(self, attributes: Attributes) -> Sequence[K]:
        """Return the keys of the filters that match an event with these attributes, each once.

        The keys of filters without conditions come first, in the order in which they were added.
        The order of the others depends only on the attributes and on the earlier changes. Calls
        `on_error` of each filter as often as its `matches` would, with equal problems. Never
        raises.
        """
        if self._only is not None:
            matches, only = self._only
            return only if matches(attributes) else ()
        self._evaluation.number += 1
        buckets = [self._unindexed] if self._unindexed else []
        tables = self._tables
        for name in tables if len(tables) <= len(attributes) else _common(attributes, tables):
            value = attributes.get(name)
            if value is None:
                continue
            text = value if isinstance(value, str) else to_string(value)
            table = tables[name]
            if text in table.exact:
                buckets.append(table.exact[text])
            if table.prefixes:
                for length, texts in table.prefixes.items():
                    # A shorter text is not a key here: all keys have this length.
                    if (affix := text[:length]) in texts:
                        buckets.append(texts[affix])
            if table.suffixes:
                for length, texts in table.suffixes.items():
                    if (affix := text[-length:]) in texts:
                        buckets.append(texts[affix])
        matched = []
        for bucket in buckets:
            for entry in bucket:
                if entry.passes is None or entry.passes(attributes):
                    matched.append(entry)  # noqa: PERF401 - a comprehension is a call for each event
        everything = self._unconditional
        found = everything.prepared() if everything.keys is None else everything.keys
        if not matched:
            return found
        if len(matched) == 1 and not found:
            return matched[0].keys or matched[0].prepared()
        several = [*found]
        for entry in matched:
            several += entry.keys or entry.prepared()
        return several

    def _changed(self) -> None:
        self.conditional = len(self._unconditional.filters) < len(self._by_key)
        self._only = None
        if len(self._by_key) == 1:
            [(key, entry)] = self._by_key.items()
            self._only = entry.filters[key].matches, (key,)

    def _entry(self, root: Clause) -> "_Entry[K]":
        """Return the entry with the condition of `root`, which is created if there is none."""
        used: dict[_SharedCesql[K], None] = {}

        def shared(clause: Cesql) -> Clause:
            expression = self._expressions.get(clause)
            if expression is None:
                expression = self._expressions[clause] = _SharedCesql(clause, self._evaluation)
            used[expression] = None
            return expression

        condition = _normalised(root, shared)
        entry = self._by_condition.get(condition)
        if entry is None:
            access = _access(condition, self._crowd)
            entry = _Entry(condition, access, tuple(used), self._evaluation)
            self._by_condition[condition] = entry
            if access is None:
                self._unindexed[entry] = None
            for path in entry.paths:
                self._tables.setdefault(path.name, _Table()).add(path, entry)
            for expression in used:
                expression.add_user(entry)
        return entry

    def _drop(self, entry: "_Entry[K]", condition: Clause) -> None:
        del self._by_condition[condition]
        self._unindexed.pop(entry, None)
        for path in entry.paths:
            table = self._tables[path.name]
            table.remove(path, entry)
            if table.is_empty():
                del self._tables[path.name]
        for expression in entry.expressions:
            expression.remove_user(entry)
            if not expression.users:
                del self._expressions[expression.clause]
        # The compiled predicate refers to the entry, which would wait for the garbage collector.
        entry.passes = None

    def _crowd(self, path: Compare) -> int:
        """Return the number of entries on an access path."""
        table = self._tables.get(path.name)
        return 0 if table is None else len(table.bucket(path))


class _Evaluation:
    """The number of the event that is evaluated. What is kept for one event is used only with its
    number.
    """

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class _Access(NamedTuple):
    """How the events that may pass a clause are found."""

    paths: tuple[Compare, ...]
    """For each event that passes, one of these holds. If none holds, the clause fails without an
    error. Without paths, no event passes.
    """
    rest: Clause | None
    """What decides about an event for which a path holds; None if it passes."""
    cost: tuple[int, int]
    """Compared with other access paths for the same clause: the entries on the fullest path, and a
    rank.
    """


class _Entry(Generic[K]):
    """The filters with one condition."""

    __slots__ = (
        "_evaluated",
        "_evaluation",
        "_rest",
        "condition",
        "expressions",
        "filters",
        "keys",
        "passes",
        "paths",
    )

    def __init__(
        self,
        condition: Clause | None,
        access: _Access | None,
        expressions: tuple["_SharedCesql[K]", ...],
        evaluation: _Evaluation,
    ) -> None:
        self.condition = condition
        self.expressions = expressions
        self.paths = access.paths if access else ()
        self.filters: dict[K, Filter] = {}
        """By key. Never empty while the entry is in the index."""
        self.keys: tuple[K, ...] | None = None
        """The keys of the filters; None after a change, until `prepared`."""
        self.passes: Predicate | None = None
        """What decides about an event that was found; None if it passes. For a further path to the
        same event, it returns False.
        """
        self._rest = access.rest if access else condition
        self._evaluation = evaluation
        self._evaluated = 0
        self.compile_later()

    def prepared(self) -> tuple[K, ...]:
        """Return the keys, after a change."""
        self.keys = tuple(self.filters)
        return self.keys

    def compile_later(self) -> None:
        """Compile the condition with the next event, because sharing of an expression changed."""
        if self._rest is not None or len(self.paths) > 1:
            self.passes = self._compile_and_pass

    def _compile_and_pass(self, attributes: Attributes) -> bool:
        passes = None if self._rest is None else Filter(self._rest, self._report).matches
        self.passes = passes = self._once(passes) if len(self.paths) > 1 else passes
        return passes is None or passes(attributes)

    def _once(self, passes: Predicate | None) -> Predicate:
        """Return a predicate that evaluates an event on the first path only."""

        def once(attributes: Attributes) -> bool:
            if self._evaluated == self._evaluation.number:
                return False
            self._evaluated = self._evaluation.number
            return passes is None or passes(attributes)

        return once

    def _report(self, problem: Problem) -> None:
        for filter in self.filters.values():
            filter.on_error(problem)


class _SharedCesql(Generic[K]):
    """An expression that is evaluated once for each event, for all conditions that contain it."""

    __slots__ = ("_evaluated", "_evaluation", "_passed", "_problem", "clause", "users")

    def __init__(self, clause: Cesql, evaluation: _Evaluation) -> None:
        self.clause = clause
        self.users: dict[_Entry[K], None] = {}
        """The entries whose conditions contain it."""
        self._evaluation = evaluation
        self._evaluated = 0
        self._passed = False
        self._problem: Problem | None = None

    def add_user(self, entry: _Entry[K]) -> None:
        """Record that a condition contains the expression."""
        self.users[entry] = None
        if len(self.users) == 2:
            self._compile_users_later()

    def remove_user(self, entry: _Entry[K]) -> None:
        """Record that a condition is removed."""
        del self.users[entry]
        if len(self.users) == 1:
            self._compile_users_later()

    def predicate(self, on_error: OnError, *, metered: bool = False) -> Predicate:
        """Return a predicate that keeps its result for other conditions, if there are any.

        A metered evaluation is not shared, because its steps count for its own filter.
        """
        if metered or len(self.users) < 2:
            return self.clause.predicate(on_error, metered=metered)
        evaluate, evaluation = self.clause.predicate(self._failed), self._evaluation

        def passes(attributes: Attributes) -> bool:
            if self._evaluated != evaluation.number:
                self._problem = None
                self._passed = evaluate(attributes)
                self._evaluated = evaluation.number
            if self._problem is not None:
                on_error(self._problem)
            return self._passed

        return passes

    def steps_max(self) -> int:
        """Return the steps of the expression."""
        return self.clause.steps_max()

    def explain(self, attributes: Attributes) -> Explanation:
        """Explain the expression."""
        return self.clause.explain(attributes)

    def _failed(self, problem: Problem) -> None:
        self._problem = problem

    def _compile_users_later(self) -> None:
        for entry in self.users:
            entry.compile_later()


_Bucket = dict[_Entry[K], None]


class _Table(Generic[K]):
    """The entries with access paths on one attribute."""

    __slots__ = ("exact", "prefixes", "suffixes")

    def __init__(self) -> None:
        self.exact: dict[str, _Bucket[K]] = {}
        self.prefixes: dict[int, dict[str, _Bucket[K]]] = {}
        """By length, then by text."""
        self.suffixes: dict[int, dict[str, _Bucket[K]]] = {}

    def bucket(self, path: Compare) -> _Bucket[K]:
        """Return the entries on a path."""
        if path.comparison is Comparison.EXACT:
            return self.exact.get(path.text, {})
        return self._affixes(path).get(len(path.text), {}).get(path.text, {})

    def add(self, path: Compare, entry: _Entry[K]) -> None:
        """Add an entry."""
        texts = (
            self.exact
            if path.comparison is Comparison.EXACT
            else self._affixes(path).setdefault(len(path.text), {})
        )
        texts.setdefault(path.text, {})[entry] = None

    def remove(self, path: Compare, entry: _Entry[K]) -> None:
        """Remove an entry, and what is empty then."""
        exact, length = path.comparison is Comparison.EXACT, len(path.text)
        texts = self.exact if exact else self._affixes(path)[length]
        del texts[path.text][entry]
        if not texts[path.text]:
            del texts[path.text]
        if not texts and not exact:
            del self._affixes(path)[length]

    def is_empty(self) -> bool:
        """Return whether no entry has a path on this attribute."""
        return not (self.exact or self.prefixes or self.suffixes)

    def _affixes(self, path: Compare) -> dict[int, dict[str, _Bucket[K]]]:
        return self.prefixes if path.comparison is Comparison.PREFIX else self.suffixes


def _common(attributes: Attributes, tables: dict[str, _Table[K]]) -> list[str]:
    """Return the names of both, with a cost that does not grow with the tables."""
    return [name for name in attributes if name in tables]


def _normalised(clause: Clause, shared: Callable[[Cesql], Clause]) -> Clause:
    """Return a clause that gives the same results and problems and does not contain paths, so that
    equal conditions are equal clauses. `shared` replaces each expression.
    """
    match clause:
        case Compare():
            return replace(clause, path="")
        case LegacyAttribute():
            return replace(clause.as_exact() or clause, path="")
        case Cesql():
            return shared(replace(clause, path=""))
        case AllOf(clauses):
            return _flattened(AllOf, [_normalised(each, shared) for each in clauses])
        case AnyOf(clauses):
            return _flattened(AnyOf, [_normalised(each, shared) for each in clauses])
        case Negation(inner):
            return Negation(_normalised(inner, shared))
        case _:
            raise AssertionError(f"unknown clause {clause!r}")


def _flattened(kind: type[AllOf] | type[AnyOf], clauses: list[Clause]) -> Clause:
    flat: list[Clause] = []
    for each in clauses:
        flat += each.clauses if isinstance(each, kind) else (each,)
    return flat[0] if len(flat) == 1 else kind(tuple(flat))


def _access(clause: Clause, crowd: Callable[[Compare], int]) -> _Access | None:
    """Return the best access paths of a normalised clause, or None if it has none.

    The best are those with the fewest entries, of which `crowd` returns the number: of two
    attributes, one may be equal in all filters. After that, `exact` is better than `prefix`,
    `suffix` and a list of alternatives.
    """
    match clause:
        case Compare(text=""):
            return _Access((), None, (-1, 0))
        case Compare(comparison=comparison, text=text):
            path, rest = clause, None
            if comparison is not Comparison.EXACT and len(text) > AFFIX_LENGTH_MAX:
                start = comparison is Comparison.PREFIX
                affix = text[:AFFIX_LENGTH_MAX] if start else text[-AFFIX_LENGTH_MAX:]
                path, rest = replace(clause, text=affix), clause
            return _Access((path,), rest, (crowd(path), _RANKS[comparison]))
        case AllOf(clauses):
            return _access_of_one(clauses, crowd)
        case AnyOf(clauses):
            return _access_of_each(clause, crowd)
        case _:
            return None


def _access_of_one(clauses: tuple[Clause, ...], crowd: Callable[[Compare], int]) -> _Access | None:
    """Return the access paths of one of the clauses, which must all pass."""
    best: _Access | None = None
    at = 0
    for position, each in enumerate(clauses):
        found = _access(each, crowd)
        if found is not None and (best is None or found.cost < best.cost):
            best, at = found, position
        if _can_fail(each):
            break
    if best is None:
        return None
    kept = () if best.rest is None else (best.rest,)
    rest = _flattened(AllOf, [*clauses[:at], *kept, *clauses[at + 1 :]])
    return best._replace(rest=rest)


def _access_of_each(clause: AnyOf, crowd: Callable[[Compare], int]) -> _Access | None:
    """Return the access paths of all alternatives together, if each has some."""
    paths: dict[Compare, None] = {}
    crowds, rest = [-1], None
    for each in clause.clauses:
        found = _access(each, crowd)
        if found is None:
            return None
        paths |= dict.fromkeys(found.paths)
        crowds.append(found.cost[0])
        rest = rest if found.rest is None else clause
    return _Access(tuple(paths), rest, (max(crowds), _RANK_OF_SEVERAL))


def _can_fail(clause: Clause) -> bool:
    """Return whether an evaluation of a normalised clause can report a problem."""
    match clause:
        case AllOf(clauses) | AnyOf(clauses):
            return any(map(_can_fail, clauses))
        case Negation(inner):
            return _can_fail(inner)
        case _:
            return isinstance(clause, _SharedCesql)
