"""When certificates expire, as a metric."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from headrace.runtime.certificate_metrics import measure_certificates
from headrace.runtime.loading import load
from headrace.runtime.metrics import Metrics
from headrace.runtime.settings import KafkaSettings, NatsSettings, Settings
from headrace_controller.settings import ControllerSettings
from headrace_ingress.settings import IngressSettings
from tests.support.certificates import Authority, Certificate

NAME = "headrace_certificate_expiry_timestamp_seconds"


@pytest.fixture
def own(tmp_path: Path) -> Certificate:
    """A certificate and its key."""
    return Authority(tmp_path).sign("own")


def _expiries(*settings: Settings) -> dict[str, float]:
    metrics = Metrics(process=False)
    measure_certificates(metrics, "one", settings)
    return _exposed(metrics)


def _exposed(metrics: Metrics) -> dict[str, float]:
    lines = metrics.expose()[0].decode().splitlines()
    prefix = f'{NAME}{{component="one",use="'
    found = (line.removeprefix(prefix) for line in lines if line.startswith(prefix))
    return {use: float(value) for use, _, value in (each.partition('"} ') for each in found)}


def _end(certificate: Path) -> float:
    """As another library reads it."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc.timestamp()


def test_each_use_has_the_end_of_its_certificate(own: Certificate) -> None:
    """Of a server, and of a client of Kafka and of NATS."""
    pair = (own.certificate, own.key)
    kafka = load(
        KafkaSettings, security_protocol="SSL", ssl_certificate_file=pair[0], ssl_key_file=pair[1]
    )
    nats = load(NatsSettings, servers="tls://n:4222", certificate_file=pair[0], key_file=pair[1])
    ingress = IngressSettings(tls_certificate_file=pair[0], tls_key_file=pair[1])
    end = _end(own.certificate)
    uses = ("kafka-client", "nats-client", "server")
    assert dict.fromkeys(uses, end) == _expiries(kafka, nats, ingress)
    controller = ControllerSettings(tls_cert_file=pair[0], tls_key_file=pair[1])
    assert {"server": end} == _expiries(controller)


def test_a_renewed_certificate_has_a_new_value(own: Certificate, tmp_path: Path) -> None:
    """At the next scrape. A file that cannot be read leaves the value as it is."""
    metrics = Metrics(process=False)
    settings = IngressSettings(tls_certificate_file=own.certificate, tls_key_file=own.key)
    measure_certificates(metrics, "one", [settings])
    assert {"server": _end(own.certificate)} == _exposed(metrics)
    renewed = Authority(tmp_path / "other").sign_between("other", "700101000000Z", "491231235959Z")
    own.certificate.write_bytes(renewed.certificate.read_bytes())
    assert {"server": _end(renewed.certificate)} == _exposed(metrics)
    own.certificate.write_text("no certificate")
    assert {"server": _end(renewed.certificate)} == _exposed(metrics)


def test_a_certificate_that_is_not_used_has_no_value(own: Certificate) -> None:
    """The same variables may be set for several protocols."""
    files = {"ssl_certificate_file": own.certificate, "ssl_key_file": own.key}
    assert {} == _expiries(load(KafkaSettings, security_protocol="PLAINTEXT", **files))
    files = {"certificate_file": own.certificate, "key_file": own.key}
    assert {} == _expiries(load(NatsSettings, **files), IngressSettings())


def test_the_first_certificate_of_a_chain_counts(own: Certificate, tmp_path: Path) -> None:
    """It is the process's own; text around it does not matter."""
    authority = Authority(tmp_path / "other").file
    chain = tmp_path / "chain.pem"
    chain.write_bytes(b"# own\n" + own.certificate.read_bytes() + authority.read_bytes())
    settings = IngressSettings(tls_certificate_file=chain, tls_key_file=own.key)
    assert {"server": _end(own.certificate)} == _expiries(settings)


@pytest.mark.parametrize("year", [2049, 2050, 9999])
def test_both_forms_of_a_date_are_read(year: int, tmp_path: Path) -> None:
    """RFC 5280, 4.1.2.5: from 2050 on a date has another form."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "far")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1 << 150)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "far.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    settings = IngressSettings(tls_certificate_file=file, tls_key_file=file)
    assert {"server": _end(file)} == _expiries(settings)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no certificate",
        b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n",
    ],
)
def test_a_file_without_a_certificate_has_no_value(content: bytes, tmp_path: Path) -> None:
    """Who uses it reports why."""
    file = tmp_path / "tls.crt"
    file.write_bytes(content)
    assert {} == _expiries(IngressSettings(tls_certificate_file=file, tls_key_file=file))
    gone = tmp_path / "gone"
    assert {} == _expiries(IngressSettings(tls_certificate_file=gone, tls_key_file=gone))


def test_a_pipe_is_left_for_the_one_who_uses_it(tmp_path: Path) -> None:
    """Its content can be read only once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert {} == _expiries(IngressSettings(tls_certificate_file=pipe, tls_key_file=pipe))
