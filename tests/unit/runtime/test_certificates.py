"""Certificates in PEM files: their dates, and pairs that cannot be used."""

import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from headrace.runtime.certificates import load_authorities, load_pair, validity
from tests.support.certificates import Authority, Certificate


@pytest.fixture
def own(tmp_path: Path) -> Certificate:
    """A certificate and its key."""
    return Authority(tmp_path).sign("own")


def context() -> ssl.SSLContext:
    """A context to load into."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def test_the_dates_are_those_of_the_first_certificate(tmp_path: Path) -> None:
    """As another library reads them; text around the certificates does not matter."""
    authority = Authority(tmp_path)
    own = authority.sign("own").certificate.read_bytes()
    expected = x509.load_pem_x509_certificate(own)
    dates = (expected.not_valid_before_utc, expected.not_valid_after_utc)
    assert dates == validity(b"a comment\n" + own + authority.file.read_bytes())


@pytest.mark.parametrize(
    ("end", "seen"),
    [
        ("491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("20500101000000Z", datetime(2050, 1, 1, tzinfo=UTC)),
        ("99991231235959Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_both_forms_of_a_date_are_read(tmp_path: Path, end: str, seen: datetime) -> None:
    """RFC 5280, 4.1.2.5: UTCTime until 2049, GeneralizedTime from 2050 on."""
    certificate = Authority(tmp_path).sign_between("own", "700101000000Z", end)
    found = validity(certificate.certificate.read_bytes())
    assert (datetime(1970, 1, 1, tzinfo=UTC), seen) == found


@pytest.mark.parametrize("text", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_without_a_certificate_has_no_dates(text: bytes) -> None:
    """Whatever it contains."""
    assert validity(text) is None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A certificate in DER."""
    return ssl.PEM_cert_to_DER_cert(Authority(tmp_path_factory.mktemp("whole")).file.read_text())


@given(st.binary(max_size=400), st.integers(0, 300))
def test_no_bytes_raise_another_error(whole: bytes, noise: bytes, cut: int) -> None:
    """Also in the form of a certificate, and for one that was cut off."""
    validity(ssl.DER_cert_to_PEM_cert(noise).encode())
    validity(ssl.DER_cert_to_PEM_cert(whole[:cut] + noise).encode())


def test_a_pair_that_does_not_match_is_refused(tmp_path: Path, own: Certificate) -> None:
    """With a reason in words."""
    other = Authority(tmp_path / "other").sign("other")
    load_pair(context(), own.certificate, own.key)
    with pytest.raises(ValueError, match="key values mismatch"):
        load_pair(context(), own.certificate, other.key)
    with pytest.raises(ValueError, match="no such file or directory"):
        load_pair(context(), own.certificate, tmp_path / "none")
    own.certificate.write_text("no certificate")
    with pytest.raises(ValueError, match="not in PEM form"):
        load_pair(context(), own.certificate, own.key)


def test_an_encrypted_key_needs_its_password(tmp_path: Path, own: Certificate) -> None:
    """OpenSSL does not ask for it at the terminal."""
    encrypted = tmp_path / "encrypted.key"
    command = ["openssl", "pkcs8", "-topk8", "-in", str(own.key), "-out", str(encrypted)]
    subprocess.run([*command, "-passout", "pass:s3cret"], check=True, timeout=30)
    load_pair(context(), own.certificate, encrypted, "s3cret")
    with pytest.raises(ValueError, match="the key is encrypted"):
        load_pair(context(), own.certificate, encrypted)
    with pytest.raises(ValueError, match="not in PEM form, or another password"):
        load_pair(context(), own.certificate, encrypted, "Wr0ng")


def test_a_file_without_authorities_is_refused(tmp_path: Path, own: Certificate) -> None:
    """One with any certificate is not."""
    load_authorities(context(), own.certificate)
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(ValueError, match="no certificate or crl found"):
        load_authorities(context(), tmp_path / "empty.pem")
