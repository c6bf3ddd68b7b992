"""Authentication: a loopback address needs no credentials, any other address a token or a client
certificate.

There is no authorization: every authenticated user may do everything. The API is meant for one
team, and its namespaces do not isolate users. Authentication prevents that an address which others
can reach is open by accident.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from headrace.domain.errors import Permanent
from headrace_apiserver.statuses import failure, unauthorized

TOKEN_LENGTH_MIN = 16
_TOKEN_LENGTH_MAX = 4_096
_TOKENS_MAX = 1_000
_SHOWN_MAX = 100
_AUTHENTICATED = "system:authenticated"
_MASTERS = "system:masters"


class InsecureListener(Permanent):
    """Everybody could use the API; the message names the options that prevent it."""


@dataclass(frozen=True, slots=True)
class User:
    """The user of a request."""

    name: str
    groups: tuple[str, ...] = (_AUTHENTICATED,)


LOOPBACK_USER = User("headrace", (_MASTERS, _AUTHENTICATED))
"""The user of every request to a loopback address, because its client is on this machine."""


class Authenticator(Protocol):
    """Finds the user of a request."""

    def authenticate(
        self, headers: Mapping[str, str], certificate: Mapping[str, Any] | None
    ) -> User:
        """The user of a request with these headers (names in lower case) and this client
        certificate. Raises StatusError 401.
        """
        ...


class LoopbackAuthenticator:
    """Accepts every request."""

    def authenticate(
        self, headers: Mapping[str, str], certificate: Mapping[str, Any] | None
    ) -> User:
        """See Authenticator."""
        return LOOPBACK_USER


class CredentialsAuthenticator:
    """Accepts bearer tokens, and client certificates that the TLS layer has verified."""

    def __init__(self, tokens: Mapping[str, User]) -> None:
        """`tokens` are users by token. Only digests of the tokens are kept in memory."""
        self.use(tokens)

    def use(self, tokens: Mapping[str, User]) -> None:
        """Accept these tokens, and no others, from now on."""
        self._digests = {
            hashlib.sha256(token.encode()).digest(): user for token, user in tokens.items()
        }

    def authenticate(
        self, headers: Mapping[str, str], certificate: Mapping[str, Any] | None
    ) -> User:
        """See Authenticator."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._user_of_token(token.strip())
        if certificate:
            return user_from_certificate(certificate)
        raise unauthorized()

    def _user_of_token(self, token: str) -> User:
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        found = None
        # All digests are compared, also after a match, so that the duration of a response reveals
        # nothing about the tokens.
        for known, user in self._digests.items():
            if hmac.compare_digest(known, digest):
                found = user
        if found is None:
            raise unauthorized()
        return found


_IMPERSONATED = {
    "impersonate-user": "users",
    "impersonate-group": "groups",
    "impersonate-uid": "uids",
}


def reject_impersonation(headers: Mapping[str, str], user: User) -> None:
    """Raise StatusError 403 for a request with impersonation headers. They are not supported, and
    ignoring them would make the client believe that it acts as another user.
    """
    for name, value in headers.items():
        if not name.lower().startswith("impersonate-"):
            continue
        resource = _IMPERSONATED.get(name.lower(), "userextras")
        group = "" if resource in ("users", "groups") else "authentication.k8s.io"
        detail = (
            f'User "{user.name}" cannot impersonate resource "{resource}" in API group "{group}" at'
            " the cluster scope"
        )
        message = f'{resource} "{value[:_SHOWN_MAX]}" is forbidden: {detail}'
        raise failure(
            403,
            "Forbidden",
            message,
            {"name": value[:_SHOWN_MAX], "group": group, "kind": resource},
        )


def create_authenticator(
    host: str, *, token_file: Path | None, client_ca_file: Path | None
) -> Authenticator:
    """The authenticator of an API that listens on `host`. Raises InsecureListener for an address
    that needs credentials if none are configured, and Permanent for a token file that cannot be
    used.
    """
    tokens = read_tokens(token_file) if token_file else {}
    if tokens or client_ca_file:
        return CredentialsAuthenticator(tokens)
    if not is_loopback_address(host):
        raise InsecureListener(
            f"the controller's API would be open to everybody who can reach {host}: set"
            " --token-file (or HEADRACE_API_TOKEN_FILE), or --client-ca-file with --tls-cert-file"
            " and --tls-key-file, or listen on 127.0.0.1"
        )
    return LoopbackAuthenticator()


def is_loopback_address(host: str) -> bool:
    """Whether only this machine can reach the address: `localhost`, or an address of the loopback
    interface in its full spelling.

    Names are not resolved, and an unusual spelling (`127.1`) counts as not loopback, so that
    credentials are needed.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_tokens(path: Path) -> dict[str, User]:
    """Read a token file. A line is a token or, as in Kubernetes, `token,user,uid,"group,group"`; a
    line that starts with # is a comment. Raises Permanent.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(
            f"--token-file {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}"
        ) from error
    found: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        token, *rest = (part.strip().strip('"') for part in line.split(","))
        if (
            not TOKEN_LENGTH_MIN <= len(token) <= _TOKEN_LENGTH_MAX
            or not token.isascii()
            or " " in token
        ):
            raise Permanent(
                f"--token-file {path}, line {number}: a token has {TOKEN_LENGTH_MIN} to"
                f" {_TOKEN_LENGTH_MAX} ASCII characters without spaces"
            )
        found[token] = _user(rest)
        if len(found) > _TOKENS_MAX:
            raise Permanent(f"--token-file {path}: more than {_TOKENS_MAX} tokens")
    if not found:
        raise Permanent(f"--token-file {path}: no token in it")
    return found


def user_from_certificate(certificate: Mapping[str, Any]) -> User:
    """The user in a verified client certificate: the common name is the user's name, the
    organisations are the groups. Raises StatusError 401 if it has no common name.
    """
    entries: list[tuple[str, str]] = [
        pair for part in certificate.get("subject", ()) for pair in part
    ]
    name = next((value for key, value in entries if key == "commonName"), "")
    if not name:
        raise unauthorized()
    return User(
        name, (*(value for key, value in entries if key == "organizationName"), _AUTHENTICATED)
    )


def _user(parts: Sequence[str]) -> User:
    if not parts or not parts[0]:
        return LOOPBACK_USER
    return User(parts[0], (*(part for part in parts[2:] if part), _AUTHENTICATED))
