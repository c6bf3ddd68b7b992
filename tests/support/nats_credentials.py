"""Operator, accounts and users of NATS, as `nsc` makes them: JWTs that are signed with Ed25519
keys, and the `.creds` file of a user.
"""

import base64
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import nkeys

_UNLIMITED: Final = dict.fromkeys(
    (
        "subs",
        "data",
        "payload",
        "imports",
        "exports",
        "conn",
        "leaf",
    ),
    -1,
)
_JETSTREAM: Final = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


@dataclass(frozen=True, slots=True)
class Key:
    """A pair of keys with the role that its prefix names."""

    prefix: int
    seed: str = field(init=False, repr=False)
    name: str = field(init=False)
    """The public key."""

    def __post_init__(self) -> None:
        seed: bytes = nkeys.encode_seed(os.urandom(32), self.prefix)
        object.__setattr__(self, "seed", seed.decode())
        public: bytes = nkeys.from_seed(seed).public_key
        object.__setattr__(self, "name", public.decode())

    def claim(self, subject: "Key", name: str, nats: dict[str, Any]) -> str:
        """A JWT about `subject`, signed with this key."""
        claims = {
            "iat": int(time.time()),
            "iss": self.name,
            "name": name,
            "sub": subject.name,
            "nats": {"version": 2, **nats},
        }
        digest = hashlib.sha256(json.dumps(claims).encode()).digest()
        claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
        header = {"typ": "JWT", "alg": "ed25519-nkey"}
        text = ".".join(_encode(json.dumps(part).encode()) for part in (header, claims))
        signature: bytes = nkeys.from_seed(self.seed.encode()).sign(text.encode())
        return f"{text}.{_encode(signature)}"


class Operator:
    """An operator with one account for JetStream, and the system's, which JetStream wants."""

    def __init__(self) -> None:
        self._key = Key(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = Key(nkeys.PREFIX_BYTE_ACCOUNT)
        self._system = Key(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def settings(self) -> str:
        """Lines for a server's configuration."""
        operator = self._key.claim(self._key, "operator", {"type": "operator"})
        events = self._claim(self._account, "events", _JETSTREAM)
        # A server refuses JetStream for the system's account.
        system = self._claim(self._system, "system", {})
        return (
            f"operator: {operator}\nsystem_account: {self._system.name}\nresolver: MEMORY\n"
            "resolver_preload: {\n"
            f"  {self._account.name}: {events}\n  {self._system.name}: {system}\n}}\n"
        )

    def _claim(self, account: Key, name: str, limits: Mapping[str, int]) -> str:
        everything = {**_UNLIMITED, **limits, "wildcards": True}
        return self._key.claim(account, name, {"type": "account", "limits": everything})

    def credentials(self, file: Path, *, trusted: bool = True) -> Path:
        """The `.creds` file of a new user; of an account that the operator does not know, if it is
        not to be trusted.
        """
        user = Key(nkeys.PREFIX_BYTE_USER)
        account = self._account if trusted else Key(nkeys.PREFIX_BYTE_ACCOUNT)
        limits = {"type": "user", "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}}
        jwt = account.claim(user, "headrace", limits)
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )
        return file


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
