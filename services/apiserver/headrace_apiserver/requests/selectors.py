"""Label and field selectors: which objects of a list or watch a client wants. (pure)

`labelSelector` and `fieldSelector` are parsed into a `Selection`, which is evaluated for every
object of a list and twice for every change, so it consists of tuples and sets only. A malformed
selector is a StatusError 400 with the message of the Kubernetes API server; ignoring it would
select other objects.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.resources.resource import ResourceKind
from headrace_apiserver.statuses import StatusError, bad_request

TEXT_MAX = 16 * 1024
"""Bytes of a selector; a longer one is rejected."""
_REQUIREMENTS_MAX = 256
_NAME_MAX = 63
_PREFIX_MAX = 253
_SHOWN_MAX = 300
"""Characters of a bad selector in a message."""

_SIGNS = frozenset(("=", "==", "!=", "!", ">", "<", ",", "(", ")"))
_TOKEN = re.compile(r"==|!=|=|!|>|<|,|\(|\)|[^\s=!<>,()]++")
"""Tokens do not include spaces: a pattern that starts with spaces would try a long run of them from
each position.
"""
_NAME = re.compile(r"[A-Za-z0-9]++(?:[-_.]++[A-Za-z0-9]++)*+")
_SUBDOMAIN = re.compile(r"[a-z0-9]++(?:-++[a-z0-9]++)*+(?:\.[a-z0-9]++(?:-++[a-z0-9]++)*+)*+")
_NAME_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
    " alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for"
    " validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_QUALIFIED_RULE = (
    f"a qualified name {_NAME_RULE} with an optional DNS subdomain prefix and '/' (e.g."
    " 'example.com/MyName')"
)
_PREFIX_RULE = (
    "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters,"
    " '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex"
    " used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.',"
    " and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or"
    " '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)

_EVENT_FIELDS = (
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)
_FIELDS: Mapping[tuple[str, str], Sequence[str]] = {
    ("", "events"): _EVENT_FIELDS,
    ("events.k8s.io", "events"): tuple(
        field.replace("involvedObject", "regarding") for field in _EVENT_FIELDS
    ),
    ("", "secrets"): ("type",),
    ("", "namespaces"): ("status.phase", "name"),
    ("", "services"): ("spec.clusterIP", "spec.type"),
}
_PATHS = {"source": ("source", "component"), "name": ("metadata", "name")}


@dataclass(frozen=True, slots=True)
class LabelTest:
    """One requirement on one label. The operators `in`, `notin`, `gt` and `lt` compare with
    `values`.
    """

    key: str
    operator: str
    """One of `exists`, `absent`, `in`, `notin`, `gt`, `lt`."""
    values: frozenset[str] = frozenset()

    def passes(self, labels: Mapping[str, Any]) -> bool:
        """Whether an object with these labels passes. An object without the label passes `notin`,
        as with `!=`.
        """
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value in self.values
            case "notin":
                return value not in self.values
            case "exists":
                return self.key in labels
            case "absent":
                return self.key not in labels
        (bound,) = self.values
        number = _integer(value)
        if number is None:
            return False
        return number > int(bound) if self.operator == "gt" else number < int(bound)


@dataclass(frozen=True, slots=True)
class FieldTest:
    """One field equals a text, or does not (`equal` False). An absent field is an empty text."""

    path: tuple[str, ...]
    value: str
    equal: bool

    def passes(self, document: Mapping[str, Any]) -> bool:
        """Whether the object passes."""
        found: Any = document
        for step in self.path:
            found = found.get(step) if isinstance(found, Mapping) else None
        return (_text(found) == self.value) is self.equal


@dataclass(frozen=True, slots=True)
class Selection:
    """All requirements of a list or watch; an object must pass every one."""

    labels: tuple[LabelTest, ...] = ()
    fields: tuple[FieldTest, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether every object passes."""
        return not (self.labels or self.fields)

    @property
    def name(self) -> str | None:
        """The only name that can pass, if there is one: such a list is a get."""
        wanted = {
            test.value for test in self.fields if test.equal and test.path == ("metadata", "name")
        }
        return next(iter(wanted)) if len(wanted) == 1 else None

    def passes(self, document: Mapping[str, Any]) -> bool:
        """Whether the object is selected."""
        if self.fields and not all(test.passes(document) for test in self.fields):
            return False
        if not self.labels:
            return True
        labels = (document.get("metadata") or {}).get("labels") or {}
        return all(test.passes(labels) for test in self.labels)


EVERYTHING = Selection()


def read_selection(
    kind: ResourceKind,
    label_selector: str | None,
    field_selector: str | None,
    *,
    selectable: Collection[str] = (),
) -> Selection:
    """Parse both parameters of a request. `selectable` are field paths that the definition of the
    kind adds (`spec.color`). Raises StatusError 400.
    """
    return Selection(
        read_labels(label_selector or ""), read_fields(field_selector or "", kind, selectable)
    )


def read_labels(text: str) -> tuple[LabelTest, ...]:
    """Parse a label selector, `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.

    Raises StatusError 400.
    """
    _check_length(text, "labelSelector")
    tokens = _TOKEN.findall(text)
    if tokens and tokens[0] in _SIGNS and tokens[0] != "!":
        raise bad_request(f"found '{tokens[0]}', expected: !, identifier, or 'end of string'")
    tests: list[LabelTest] = []
    position = 0
    while position < len(tokens):
        test, position = _label_test(tokens, position)
        tests.append(test)
        if position < len(tokens):
            if tokens[position] != ",":
                raise bad_request(f"found '{tokens[position]}', expected: ',' or 'end of string'")
            position += 1
            if position == len(tokens) or tokens[position] == ",":
                found = "".join(tokens[position : position + 1])
                raise bad_request(f"found '{found}', expected: identifier after ','")
        if len(tests) > _REQUIREMENTS_MAX:
            raise bad_request(
                f"labelSelector: more than {_REQUIREMENTS_MAX} requirements; select by fewer labels"
            )
    return tuple(sorted(tests, key=lambda test: test.key))


def read_fields(
    text: str, kind: ResourceKind, selectable: Collection[str] = ()
) -> tuple[FieldTest, ...]:
    """Parse a field selector, `metadata.name=a,type!=b`, with the escapes `\\,` `\\=` `\\\\`.

    Raises StatusError 400.
    """
    _check_length(text, "fieldSelector")
    known = {"metadata.name", *(("metadata.namespace",) if kind.namespaced else ()), *selectable}
    known.update(_FIELDS.get((kind.group, kind.plural), ()))
    tests: list[FieldTest] = []
    for term in _terms(text):
        if not term:
            continue
        name, equal, value = _field_term(term, text)
        if name not in known:
            raise bad_request(f"field label not supported: {name}")
        tests.append(FieldTest(_PATHS.get(name, tuple(name.split("."))), value, equal))
        if len(tests) > _REQUIREMENTS_MAX:
            raise bad_request(
                f"fieldSelector: more than {_REQUIREMENTS_MAX} requirements; select by fewer fields"
            )
    return tuple(tests)


def _label_test(tokens: Sequence[str], position: int) -> tuple[LabelTest, int]:
    negated = tokens[position] == "!"
    position += negated
    key = _word(tokens, position, "identifier")
    _check_key(key)
    position += 1
    operator = tokens[position] if position < len(tokens) else ","
    if negated or operator == ",":
        return LabelTest(key, "absent" if negated else "exists"), position
    position += 1
    if operator in ("in", "notin"):
        values, position = _value_list(key, tokens, position)
        return LabelTest(key, operator, values), position
    if operator not in ("=", "==", "!=", ">", "<"):
        raise _unreadable(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")
    value = ""
    if position < len(tokens) and tokens[position] != ",":
        value = _word(tokens, position, "identifier")
        position += 1
    if operator in (">", "<"):
        if _integer(value) is None:
            raise _unreadable(
                f"values[0]: Invalid value: {_shown(value)}: for 'Gt', 'Lt' operators, the value"
                " must be an integer"
            )
        return LabelTest(key, "gt" if operator == ">" else "lt", frozenset((value,))), position
    _check_value(f"values[0][{key}]", value)
    return LabelTest(key, "notin" if operator == "!=" else "in", frozenset((value,))), position


def _value_list(key: str, tokens: Sequence[str], position: int) -> tuple[frozenset[str], int]:
    if position >= len(tokens) or tokens[position] != "(":
        found = tokens[position] if position < len(tokens) else ""
        raise _unreadable(f"found '{found}' expected: '('")
    try:
        end = tokens.index(")", position)
    except ValueError:
        expected = "',', ')' or identifier" if tokens[-1] in ("(", ",") else "',' or ')'"
        raise _unreadable(f"found '', expected: {expected}") from None
    values = [""]
    for word in tokens[position + 1 : end]:
        if word == ",":
            values.append("")
        elif values[-1] or word in _SIGNS:
            raise _unreadable(f"found '{word}', expected: ',' or ')'")
        else:
            values[-1] = word
    for index, value in enumerate(sorted(values)):
        _check_value(f"values[{index}][{key}]", value)
    return frozenset(values), end + 1


def _word(tokens: Sequence[str], position: int, what: str) -> str:
    token = tokens[position] if position < len(tokens) else ""
    if not token or token in _SIGNS:
        raise _unreadable(f"found '{token}', expected: {what}")
    return token


def _check_key(key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    rule = ""
    if "/" in prefix:
        rule = _QUALIFIED_RULE
    elif slash and not prefix:
        rule = "prefix part must be non-empty"
    elif slash and (len(prefix) > _PREFIX_MAX or _SUBDOMAIN.fullmatch(prefix) is None):
        rule = _PREFIX_RULE
    elif not name:
        rule = "name part must be non-empty"
    elif len(name) > _NAME_MAX:
        rule = f"name part must be no more than {_NAME_MAX} characters"
    elif _NAME.fullmatch(name) is None:
        rule = f"name part {_NAME_RULE}"
    if rule:
        raise _unreadable(f"<nil>: Invalid value: {_shown(key)}: {rule}")


def _check_value(place: str, value: str) -> None:
    if len(value) > _NAME_MAX:
        raise _unreadable(
            f"{place}: Invalid value: {_shown(value)}: must be no more than {_NAME_MAX} characters"
        )
    if value and _NAME.fullmatch(value) is None:
        raise _unreadable(f"{place}: Invalid value: {_shown(value)}: {_VALUE_RULE}")


def _shown(value: str) -> str:
    return f'"{value[:_SHOWN_MAX]}"'


def _unreadable(why: str) -> StatusError:
    return bad_request(f"unable to parse requirement: {why}")


def _check_length(text: str, parameter: str) -> None:
    if len(text) > TEXT_MAX:
        raise bad_request(f"{parameter}: {len(text)} characters; at most {TEXT_MAX} are read")


def _terms(text: str) -> list[str]:
    """Split at unescaped commas; backslashes stay for `_field_term`."""
    terms = [""]
    escaped = False
    for character in text:
        if character == "," and not escaped:
            terms.append("")
            continue
        terms[-1] += character
        escaped = character == "\\" and not escaped
    return terms


def _field_term(term: str, text: str) -> tuple[str, bool, str]:
    for position in range(len(term)):
        for operator in ("!=", "==", "="):
            if term.startswith(operator, position):
                return (
                    term[:position],
                    operator != "!=",
                    _unescaped(term[position + len(operator) :]),
                )
    raise bad_request(f"invalid selector: '{text[:300]}'; can't understand '{term[:300]}'")


def _unescaped(value: str) -> str:
    out = []
    characters = iter(value)
    for character in characters:
        if character == "\\":
            character = next(characters, "")
            if character not in ("\\", ",", "="):
                raise bad_request(f"invalid field selector: invalid escape sequence: \\{character}")
        elif character in (",", "="):
            raise bad_request(
                f"invalid field selector: unescaped character in value: {ord(character)}"
            )
        out.append(character)
    return "".join(out)


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return str(value)
    return ""


def _integer(text: Any) -> int | None:
    if not isinstance(text, str) or len(text) > 20 or not text.isascii():
        return None
    digits = text[1:] if text[:1] in ("+", "-") else text
    return int(text) if digits.isdecimal() else None
