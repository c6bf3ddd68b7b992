"""A certificate authority for one test, made with the `openssl` command; it stands for a user's own
CA.
"""

import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key as PEM files: separate, and combined as Kafka's key stores need
    them.
    """

    certificate: Path
    key: Path

    @property
    def store(self) -> Path:
        """Key and certificate in one file."""
        path = self.key.with_suffix(".store.pem")
        if not path.exists():
            path.write_bytes(self.key.read_bytes() + self.certificate.read_bytes())
        return path


class Authority:
    """Signs certificates for the loopback address. Skips the test if there is no openssl."""

    def __init__(self, directory: Path, name: str = "ca", *, key_usage: bool = True) -> None:
        """Without `key_usage` its certificate lacks that extension, as those of many clusters."""
        if shutil.which("openssl") is None:
            pytest.skip(
                "not proven here: TLS needs certificates, and the openssl command that makes them"
                " is not there"
            )
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._own = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
        self._make(
            self._own,
            f"/CN=Headrace test {name}",
            *(("-addext", "keyUsage=critical,keyCertSign,cRLSign") if key_usage else ()),
        )

    @property
    def file(self) -> Path:
        """The authority's certificate, for a trust store."""
        return self._own.certificate

    def sign(self, name: str) -> Certificate:
        """A certificate for `name`, valid for servers on 127.0.0.1 and for clients."""
        made = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        signer = ("-CA", str(self._own.certificate), "-CAkey", str(self._own.key))
        extensions = (
            "subjectAltName=IP:127.0.0.1,DNS:localhost",
            "basicConstraints=critical,CA:FALSE",
        )
        self._make(
            made,
            f"/CN={name}",
            *signer,
            *(word for each in extensions for word in ("-addext", each)),
        )
        return made

    def sign_for(
        self, name: str, seconds: float, *, since: float = 60.0, common_name: str = ""
    ) -> Certificate:
        """As `sign`, valid for `seconds` from now on, and since a while before."""
        now = datetime.now(UTC)
        begin, end = now - timedelta(seconds=since), now + timedelta(seconds=seconds)
        return self.sign_between(name, f"{begin:{_DATE}}", f"{end:{_DATE}}", common_name or name)

    def sign_between(
        self, name: str, begin: str, end: str, common_name: str = "own"
    ) -> Certificate:
        """As `sign`, valid between two dates (YYMMDDHHMMSSZ, or with four digits of the year)."""
        made = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        database = self._directory / f"{name}.index"
        settings, request = database.with_suffix(".cnf"), database.with_suffix(".csr")
        database.write_text("")
        settings.write_text(_ISSUING.format(database=database, directory=self._directory))
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        subject = ("-subj", f"/CN={common_name}")
        openssl("req", "-new", *curve, "-keyout", made.key, "-out", request, *subject)
        signer = ("-cert", self._own.certificate, "-keyfile", self._own.key)
        dates = ("-startdate", begin, "-enddate", end)
        issue = ("ca", "-batch", "-notext", "-config", settings)
        openssl(*issue, *signer, *dates, "-in", request, "-out", made.certificate)
        return made

    def _make(self, made: Certificate, subject: str, *more: str) -> None:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        files = ("-keyout", str(made.key), "-out", str(made.certificate))
        openssl("req", "-x509", *curve, *files, "-days", "2", "-subj", subject, *more)


_DATE = "%y%m%d%H%M%SZ"
_ISSUING = """
[ca]
default_ca = own
[own]
database = {database}
new_certs_dir = {directory}
default_md = sha256
unique_subject = no
rand_serial = yes
policy = any
x509_extensions = extensions
[any]
commonName = supplied
[extensions]
subjectAltName = IP:127.0.0.1,DNS:localhost
basicConstraints = critical,CA:FALSE
"""


def openssl(*arguments: str | Path) -> None:
    """Run the openssl command."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
