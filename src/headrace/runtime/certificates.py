"""Reads and checks certificates in PEM files.

The standard library loads certificates into a context and does not show when they expire. So the
dates are read from the certificate itself (RFC 5280, 4.1).
"""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


def load_pair(
    context: ssl.SSLContext, certificate: Path, key: Path, password: str | None = None
) -> None:
    """Load a certificate chain and its private key into a context.

    Raises ValueError with the reason if they cannot be used together. Without `password`, an
    encrypted key is refused: OpenSSL would ask for it at the terminal, and wait.
    """
    encrypted = False

    def given() -> str:
        nonlocal encrypted
        encrypted = True
        return password or ""

    try:
        context.load_cert_chain(certificate, key, given)
    except OSError as error:  # ssl.SSLError is one.
        if encrypted and password is None:
            raise ValueError("the key is encrypted") from None
        raise ValueError(reason_of(error)) from error


def load_authorities(context: ssl.SSLContext, file: Path) -> None:
    """Trust the CA certificates of a file. Raises ValueError with the reason."""
    try:
        context.load_verify_locations(file)
    except OSError as error:
        raise ValueError(reason_of(error)) from error


def reason_of(error: OSError) -> str:
    """Return the reason of OpenSSL or of the system, in words."""
    reason = str(getattr(error, "reason", None) or error.strerror or error)
    if "PEM lib" in reason:  # What OpenSSL says of most of what it cannot read.
        return "not in PEM form, or another password"
    return reason.replace("_", " ").lower()


def validity(pem: bytes) -> tuple[datetime, datetime] | None:
    """Return from when until when the first certificate of a file is valid; None if the file has
    none that can be read.
    """
    begin = pem.find(_BEGIN)
    end = pem.find(_END, begin)
    if begin < 0 or end < 0:
        return None
    try:
        return _validity(ssl.PEM_cert_to_DER_cert(pem[begin : end + len(_END)].decode("ascii")))
    except (ValueError, LookupError, StopIteration):
        return None


def _validity(der: bytes) -> tuple[datetime, datetime]:
    """Return the field `validity` of a certificate: after version, serial number, signature
    algorithm and issuer.
    """
    _, certificate = next(_elements(der))
    _, signed = next(_elements(certificate))
    fields = [each for each in _elements(signed) if each[0] != _VERSION]
    tag, dates = fields[3]
    if tag != _SEQUENCE:
        raise ValueError("the certificate has another form")
    begin, end = (_time(tag, text.decode("ascii")) for tag, text in _elements(dates))
    return begin, end


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element in DER (X.690, 8.1)."""
    at = 0
    while at < len(data):
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            octets = size & 0x7F
            size = int.from_bytes(data[at : at + octets], "big")
            at += octets
        yield tag, data[at : at + size]
        at += size


def _time(tag: int, text: str) -> datetime:
    """Return a UTCTime, whose years from 50 are those of the last century, or a
    GeneralizedTime.
    """
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
