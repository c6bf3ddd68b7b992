"""Kafka with TLS and passwords, the ingress with HTTPS: the settings of docs/security.md, on a
broker that requires them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import urllib3
from structlog.testing import capture_logs

from headrace.runtime.kafka_credentials import renewed_options
from headrace.runtime.loading import load
from headrace.runtime.settings import KafkaSettings
from tests.support.certificates import Authority
from tests.support.headrace_under_test import HeadraceUnderTest, wait_for_events
from tests.support.manifests import broker, trigger
from tests.support.processes import Processes, ServiceProcess
from tests.support.secured_kafka import SecuredKafka, give_password, secured_kafka
from tests.support.wait_until import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
NAMESPACE = "secured"
REPORT_SECONDS = 20.0
LINES_MAX = 12
"""Log output that a service may write in its first seconds when Kafka refuses it."""
EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One broker for all tests of this module."""
    with secured_kafka(tmp_path_factory.mktemp("secured")) as started:
        yield started


def test_event_is_delivered_over_secured_connections(secured: SecuredKafka, tmp_path: Path) -> None:
    """HTTPS to an ingress that authenticates with PLAIN, a controller with SCRAM, a dispatcher with
    a client certificate.
    """
    certificate = secured.authority.sign("ingress")
    https = {
        "HEADRACE_INGRESS_TLS_CERTIFICATE_FILE": str(certificate.certificate),
        "HEADRACE_INGRESS_TLS_KEY_FILE": str(certificate.key),
    }
    own = {
        "controller": secured.by_password("SCRAM-SHA-512"),
        "ingress": {**secured.by_password("PLAIN"), **https},
        "dispatcher": secured.by_certificate(),
    }
    system = HeadraceUnderTest(
        secured.apache.bootstrap_servers, tmp_path, own_env=own, ca=secured.authority.file
    )
    try:
        system.start()
        manifests = [broker(NAMESPACE), trigger(NAMESPACE, "orders", system.sinks.url("orders"))]
        system.establish(*manifests)
        address = (system.get(manifests[0]) or {})["status"]["address"]["url"]
        assert f"https://127.0.0.1:{system.ingress_port}/{NAMESPACE}/default" == address
        assert 202 == system.post(f"/{NAMESPACE}/default", EVENT, b"data")
        wait_for_events(system, "orders", 1)
        assert 'certificate_expiry_timestamp_seconds{component="ingress",use="server"}' in (
            system.metrics("ingress")
        )
        assert (
            'certificate_expiry_timestamp_seconds{component="dispatcher",use="kafka-client"}'
            in system.metrics("dispatcher-0")
        )
        with pytest.raises(urllib3.exceptions.HTTPError):  # plain HTTP at a TLS port
            urllib3.request(
                "POST", address.replace("https", "http"), headers=EVENT, retries=False, timeout=5.0
            )
        with pytest.raises(
            urllib3.exceptions.SSLError
        ):  # not signed by one of the system's authorities
            urllib3.request("POST", address, headers=EVENT, retries=False, timeout=5.0)
    except BaseException:
        print(system.processes.report())
        raise
    finally:
        system.close()


def _error_lines(service: ServiceProcess, setting: str) -> list[str]:
    return [
        line
        for line in service.output().splitlines()
        if setting in line and '"level": "error"' in line
    ]


def _start(processes: Processes, env: Mapping[str, str]) -> list[ServiceProcess]:
    ports = ("--port", "0", "--management-port", "0")
    arguments = {"controller": ports, "ingress": ports, "dispatcher": ports[2:]}
    logs = {"HEADRACE_LOG_FORMAT": "json", "JAVA_TOOL_OPTIONS": ""}
    return [processes.headrace(kind, *own, env={**env, **logs}) for kind, own in arguments.items()]


@pytest.mark.parametrize(
    "wrong", ["scram password", "plain password", "mechanism", "authority", "certificate"]
)
def test_a_refusal_is_one_error_that_names_the_setting(
    secured: SecuredKafka, processes: Processes, tmp_path: Path, wrong: str
) -> None:
    """A wrong password, an unknown authority, a missing client certificate: each service logs once
    which setting to check.
    """
    password = tmp_path / "password"
    password.write_text("wrong", encoding="ascii")
    false = {"HEADRACE_KAFKA_SASL_PASSWORD_FILE": str(password)}
    without = {
        name: value
        for name, value in secured.by_certificate().items()
        if not name.endswith(("CERTIFICATE_FILE", "KEY_FILE"))
    }
    env, setting = {
        "scram password": (
            {**secured.by_password("SCRAM-SHA-512"), **false},
            "HEADRACE_KAFKA_SASL_PASSWORD_FILE",
        ),
        "plain password": (
            {**secured.by_password("PLAIN"), **false},
            "HEADRACE_KAFKA_SASL_PASSWORD_FILE",
        ),
        "mechanism": (secured.by_password("SCRAM-SHA-256"), "HEADRACE_KAFKA_SASL_MECHANISM"),
        "authority": (
            {
                **secured.by_password("PLAIN"),
                "HEADRACE_KAFKA_SSL_CA_FILE": str(Authority(tmp_path, "another").file),
            },
            "HEADRACE_KAFKA_SSL_CA_FILE",
        ),
        "certificate": (without, "HEADRACE_KAFKA_SSL_CERTIFICATE_FILE"),
    }[wrong]
    services = _start(processes, env)
    for service in services:
        wait_until(
            lambda service=service: _error_lines(service, setting),  # type: ignore[misc]
            REPORT_SECONDS,
            f"{service.name} names {setting}",
        )
    for service in services:
        assert service.running, service.tail()
        assert 1 == len(_error_lines(service, setting)), service.output()
        assert len(service.output().splitlines()) <= LINES_MAX, service.output()
        assert "wrong" not in service.output().replace("wrong version", "")


async def test_a_renewed_password_is_used_once_kafka_accepts_it(
    secured: SecuredKafka, tmp_path: Path
) -> None:
    """Until then the clients keep the one with which they are connected."""
    file, user = tmp_path / "password", "renewed"
    file.write_text("first\n", encoding="ascii")
    give_password(secured.apache, b"first", user)
    settings = load(
        KafkaSettings,
        bootstrap_servers=secured.sasl_address,
        security_protocol="SASL_SSL",
        ssl_ca_file=secured.authority.file,
        sasl_username=user,
        sasl_password_file=file,
    )
    options, files = renewed_options(settings, "headrace-test")
    file.write_text("second\n", encoding="ascii")
    with capture_logs() as logs:
        await files.check()
        await files.check()
    (line,) = logs
    assert ("secret_not_usable", [str(file)]) == (line["event"], line["files"])
    assert "SASL authentication error" in line["error"]
    assert "first" == options.client()["sasl.password"]
    give_password(secured.apache, b"second", user)
    with capture_logs() as logs:
        await files.check()
    assert ["secret_renewed"] == [each["event"] for each in logs]
    assert "second" == options.client()["sasl.password"]


def test_unusable_files_are_named_at_the_start(
    secured: SecuredKafka, processes: Processes, tmp_path: Path
) -> None:
    """With a missing password file or an invalid key, the service exits with one line."""
    missing = {
        **secured.by_password("PLAIN"),
        "HEADRACE_KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "none"),
    }
    (service,) = _start(processes, missing)[2:]
    assert 2 == service.wait(REPORT_SECONDS)
    assert "HEADRACE_KAFKA_SASL_PASSWORD_FILE: cannot read" in service.output()
    broken = tmp_path / "broken.pem"
    broken.write_text("no key", encoding="ascii")
    names = ("HEADRACE_INGRESS_TLS_CERTIFICATE_FILE", "HEADRACE_INGRESS_TLS_KEY_FILE")
    ingress = _start(
        processes, {**secured.by_password("PLAIN"), **dict.fromkeys(names, str(broken))}
    )[1]
    assert 2 == ingress.wait(REPORT_SECONDS)
    assert names[0] in ingress.output()
    assert 1 == len(ingress.output().splitlines())
