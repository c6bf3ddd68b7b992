"""Certificate chains for one test, made with the `openssl` command: roots, intermediates, and
server certificates of every kind.
"""

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.certificates import openssl

AUTHORITY = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path

    @property
    def text(self) -> str:
        """The certificate."""
        return self.certificate.read_text()


class Chains:
    """Issues certificates. Skips the test if there is no openssl."""

    def __init__(self, directory: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip(
                "not proven here: TLS needs certificates, and the openssl command that makes them"
                " is not there"
            )
        self._directory = directory
        self._numbers = itertools.count()

    def authority(
        self,
        name: str,
        signer: Issued | None = None,
        *,
        days: int = 2,
        extensions: Sequence[str] = AUTHORITY,
    ) -> Issued:
        """A root, or the intermediate that `signer` has signed."""
        return self.issue(name, signer, days=days, extensions=extensions)

    def server(
        self,
        signer: Issued | None,
        *names: str,
        common_name: str = "server",
        days: int = 2,
        usage: str = "serverAuth",
    ) -> Issued:
        """A server's certificate for these names (`DNS:…`, `IP:…`); self-signed if there is no
        signer; expired if `days` is below 0.
        """
        extensions = [f"extendedKeyUsage={usage}"]
        if names:
            extensions.append(f"subjectAltName={','.join(names)}")
        return self.issue(common_name, signer, days=days, extensions=extensions)

    def issue(
        self, name: str, signer: Issued | None, *, days: int, extensions: Sequence[str]
    ) -> Issued:
        """Any certificate."""
        stem = self._directory / str(next(self._numbers))
        issued = Issued(stem.with_suffix(".pem"), stem.with_suffix(".key"))
        request, file = stem.with_suffix(".csr"), stem.with_suffix(".ext")
        file.write_text("".join(f"{each}\n" for each in extensions))
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl(
            "req", "-new", *curve, "-subj", f"/CN={name}", "-keyout", issued.key, "-out", request
        )
        by = (
            ("-CA", signer.certificate, "-CAkey", signer.key, "-CAcreateserial")
            if signer
            else ("-signkey", issued.key)
        )
        openssl(
            "x509",
            "-req",
            "-in",
            request,
            *by,
            "-days",
            str(days),
            "-extfile",
            file,
            "-out",
            issued.certificate,
        )
        return issued
