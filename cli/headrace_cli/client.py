"""Client of the controller's API: a few verbs over urllib3, with deadlines, and error messages with
the next step.

The client asks the server for the available kinds, so that it can apply and show kinds that are
added later.
"""

import difflib
import json
import re
import ssl
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import urllib3

from headrace.adapters.authorities import accept_plain_authorities
from headrace_cli.terminal import echo

SERVER = "http://127.0.0.1:8001"
SERVER_VARIABLE = "HEADRACE_SERVER"
AUTHORITY_VARIABLE = "HEADRACE_CERTIFICATE_AUTHORITY"
TOKEN_VARIABLE = "HEADRACE_API_TOKEN_FILE"  # noqa: S105 - the name of a variable
MANAGER = "headrace"
"""The field manager for applied fields."""
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_JSON = "application/json"
_CONNECT_SECONDS = 3.0
_WORD_MAX = 100
_NAMED_MAX = 5
"""Kinds of a category that a message names."""
_READ_SECONDS = 20.0
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_WARNING = re.compile(r'(\d{3}) [^\s"]+ "((?:[^"\\]|\\.)*)"')
"""Code, agent and text of a warning (RFC 7234, 5.5)."""
_ESCAPED = re.compile(r"\\(.)")
_OF_THE_API = "299"
"""The code for warnings that a user should see; the others are of caches."""

Document = Mapping[str, Any]


class ApiFailure(Exception):
    """The API did not do what was requested; the message includes the next step if one is known."""

    def __init__(self, message: str, *, code: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind as the server describes it."""

    group_version: str
    kind: str
    plural: str
    namespaced: bool
    words: frozenset[str]
    """Names that users can type for this kind."""
    categories: frozenset[str] = frozenset()
    """Such as `knative` and `sources`."""

    @property
    def qualified(self) -> str:
        """`plural.group`."""
        group = self.group_version.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """The URL path of one object, or (None) of a collection. Raises ApiFailure if the name is
        empty, as that of an unset variable is: the path would be that of all objects.
        """
        if name == "":
            raise ApiFailure(f"{self.qualified}: the name is empty; name an object", code=400)
        parts = ["/apis" if "/" in self.group_version else "/api", self.group_version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        return "/".join(parts if name is None else [*parts, quote(name, safe="")])


def _tls_context(authority: Path | None) -> ssl.SSLContext:
    """Return the settings that verify a server by an authority; None: by those of the system."""
    try:
        context = ssl.create_default_context(cafile=str(authority) if authority else None)
    except OSError as error:
        raise ApiFailure(
            f"--certificate-authority {authority}: no CA certificate (PEM) can be read: {error}"
        ) from error
    return accept_plain_authorities(context)


class ApiClient:
    """Client of one API server. Prints the warnings of the server on stderr, each once."""

    def __init__(
        self, server: str, *, token: str = "", certificate_authority: Path | None = None
    ) -> None:
        """Create a client. Raises ApiFailure if `server` is not an HTTP URL."""
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ApiFailure(f"--server {server}: give an http or https URL, such as {SERVER}")
        self._server = server.rstrip("/")
        self._headers = {
            "User-Agent": "headrace-cli",
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        self._kinds: dict[str, list[Kind]] = {}
        self._warned: set[str] = set()
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
            retries=urllib3.Retry(False, redirect=False),
            maxsize=2,
            ssl_context=_tls_context(certificate_authority) if parts.scheme == "https" else None,
        )

    def kind_of(self, api_version: str, kind: str) -> Kind:
        """Return the kind that a manifest names. Raises ApiFailure if the server lacks it."""
        found = next((each for each in self._kinds_of(api_version) if each.kind == kind), None)
        if found is None:
            meant = _resolve_kind(kind, {each.kind for each in self._kinds_of(api_version)})
            raise ApiFailure(
                f"the server has no kind {kind} in {api_version}{meant}; `headrace get crd` shows"
                " what there is",
                code=404,
            )
        return found

    def kind_in_group(self, group: str, kind: str) -> Kind | None:
        """Return a kind in a version that is served, preferably the group's preferred one; None if
        the server lacks it. Raises ApiFailure.
        """
        for version in self._group_versions():
            if version.rpartition("/")[0] == group:
                for each in self._kinds_of(version):
                    if each.kind == kind:
                        return each
        return None

    def kind_called(self, word: str) -> Kind:
        """Return the kind for a name that a user typed: `trigger`, `triggers`,
        `triggers.eventing.knative.dev`, a short name, or a category with one kind. Raises
        ApiFailure.
        """
        found = self.kinds_called(word)
        if len(found) > 1:
            named = ", ".join(each.plural for each in found[:_NAMED_MAX])
            more = ", …" if len(found) > _NAMED_MAX else ""
            raise ApiFailure(f"{word} is a category of {len(found)} kinds; name one: {named}{more}")
        return found[0]

    def kinds_called(self, word: str) -> list[Kind]:
        """Return the kind of that name, else the kinds of the category of that name (`sources`),
        each in the version that the server prefers. Raises ApiFailure.
        """
        wanted, known, category = word.lower(), set[str](), dict[str, Kind]()
        for version in ("v1", *self._group_versions()):
            for each in self._kinds_of(version):
                if wanted in each.words:
                    return [each]
                if wanted in each.categories:
                    category.setdefault(each.qualified, each)
                known |= each.words | each.categories
        if category:
            return list(category.values())
        raise ApiFailure(
            f"the server has no kind {word!r}{_resolve_kind(wanted, known)}; "
            "`headrace get crd` shows what there is",
            code=404,
        )

    def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        """Return one object, or None if it does not exist."""
        try:
            return self.call("GET", kind.path(namespace, name))[1]
        except ApiFailure as failure:
            if failure.code == 404:
                return None
            raise

    def table(self, kind: Kind, namespace: str | None, name: str | None = None) -> Document:
        """Return a Table of one object, of the objects in a namespace, or (None) of all objects."""
        return self.call("GET", kind.path(namespace, name), accept=TABLE)[1]

    def apply(
        self, kind: Kind, namespace: str, document: Document, *, force: bool = False
    ) -> tuple[Document, bool]:
        """Apply an object (server-side apply). Returns the stored object and whether it was
        created.
        """
        name = str(document["metadata"]["name"])
        query = (
            f"?fieldManager={MANAGER}&fieldValidation=Strict&force={'true' if force else 'false'}"
        )
        code, stored = self.call(
            "PATCH",
            kind.path(namespace, name) + query,
            document,
            content_type="application/apply-patch+yaml",
        )
        return stored, code == 201

    def merge(self, kind: Kind, namespace: str, name: str, patch: Document) -> Document:
        """Change the fields that a merge patch names; null removes one. Returns the stored object.
        Raises ApiFailure.
        """
        return self.call(
            "PATCH",
            f"{kind.path(namespace, name)}?fieldManager={MANAGER}",
            patch,
            content_type="application/merge-patch+json",
        )[1]

    def delete(self, kind: Kind, namespace: str, name: str) -> str | None:
        """Delete an object. Returns its uid, or None if it did not exist. It is still there as long
        as it has finalizers.
        """
        try:
            answer = self.call("DELETE", kind.path(namespace, name))[1]
        except ApiFailure as failure:
            if failure.code == 404:
                return None
            raise
        identified = answer.get("details" if answer.get("kind") == "Status" else "metadata")
        return str(identified.get("uid", "")) if isinstance(identified, dict) else ""

    def call(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        *,
        accept: str = _JSON,
        content_type: str = _JSON,
    ) -> tuple[int, Document]:
        """Send one request and return status code and document. Raises ApiFailure."""
        headers = {**self._headers, "Accept": accept}
        content = None
        if body is not None:
            content = json.dumps(body, allow_nan=False).encode()
            headers["Content-Type"] = content_type
        try:
            answer = self._http.request(
                method, self._server + path, body=content, headers=headers, preload_content=False
            )
            text = answer.read(_ANSWER_BYTES_MAX + 1)
            answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise ApiFailure(
                f"no answer from {self._server} ({_short_reason(error)});"
                f" {_next_step(self._server, error)}"
            ) from error
        self._print_warnings(warning_texts(answer.headers.getlist("Warning")))
        document = _document(text)
        if answer.status >= 400 or document is None:
            raise _failure(answer.status, document, self._server)
        return answer.status, document

    def _print_warnings(self, texts: Iterable[str]) -> None:
        for text in texts:
            if text not in self._warned:
                self._warned.add(text)
                echo(f"Warning: {text}", err=True)

    def _group_versions(self) -> Iterator[str]:
        """Yield the group versions of the server: for each group the preferred version, then the
        others, because not every kind is in the preferred version.
        """
        for group in self.call("GET", "/apis")[1].get("groups") or ():
            preferred = group["preferredVersion"]["groupVersion"]
            yield preferred
            yield from (
                each["groupVersion"]
                for each in group.get("versions") or ()
                if each["groupVersion"] != preferred
            )

    def _kinds_of(self, group_version: str) -> list[Kind]:
        found = self._kinds.get(group_version)
        if found is None:
            path = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
            try:
                resources = self.call("GET", path)[1].get("resources") or ()
            except ApiFailure as failure:
                if failure.code != 404:
                    raise
                resources = ()
            found = [_kind(group_version, each) for each in resources if "/" not in each["name"]]
            self._kinds[group_version] = found
        return found


def _resolve_kind(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word[:_WORD_MAX], sorted(known), 1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""


def _kind(group_version: str, resource: Document) -> Kind:
    plural, kind = str(resource["name"]), str(resource["kind"])
    group = group_version.rpartition("/")[0]
    words = {
        plural,
        kind.lower(),
        str(resource.get("singularName", "")),
        *(resource.get("shortNames") or ()),
    }
    words |= {f"{plural}.{group}"} if group else set()
    return Kind(
        group_version,
        kind,
        plural,
        bool(resource.get("namespaced")),
        frozenset(words - {""}),
        frozenset(resource.get("categories") or ()),
    )


def warning_texts(values: Iterable[str]) -> list[str]:
    """Return the texts of an API's warnings, from the values of `Warning` headers."""
    return [
        _ESCAPED.sub(r"\1", text)
        for value in values
        for code, text in _WARNING.findall(value)
        if code == _OF_THE_API
    ]


def _document(text: bytes) -> dict[str, Any] | None:
    if len(text) > _ANSWER_BYTES_MAX:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _failure(code: int, document: Document | None, server: str) -> ApiFailure:
    if document is None or document.get("kind") != "Status":
        return ApiFailure(
            f"{server} answered {code} and not as a Headrace controller does; is --server right?",
            code=code,
        )
    message = str(document.get("message", code))
    if code == 401:
        message = (
            "the server wants to know who asks: name a token file with --token-file or"
            f" {TOKEN_VARIABLE}"
        )
    return ApiFailure(message, code=code, reason=str(document.get("reason", "")))


def _next_step(server: str, error: Exception) -> str:
    if isinstance(error, urllib3.exceptions.SSLError):
        return f"name the CA of the server with --certificate-authority or {AUTHORITY_VARIABLE}"
    if isinstance(error, urllib3.exceptions.ProtocolError) and server.startswith("http:"):
        return f"if the server speaks HTTPS, name it with --server or {SERVER_VARIABLE} as https://"
    return (
        "start a controller (`headrace up` or `headrace controller`), or name another with"
        f" --server or {SERVER_VARIABLE}"
    )


def _short_reason(error: Exception) -> str:
    cause = getattr(error, "reason", None) or error
    return str(cause).rpartition(": ")[2] or type(error).__name__
