"""What the chart sets are settings of the services, with values that they accept: each command is
run up to the point where the service would start.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer.testing
import yaml

from headrace.runtime.loading import known_variables
from headrace.runtime.metrics import Metrics
from headrace.runtime.settings import KafkaSettings, ManagementSettings, SecurityProtocol, Settings
from headrace.runtime.tracing import tracing_from_environment
from headrace_cli.main import application
from headrace_controller.settings import ControllerSettings, KubernetesSettings
from headrace_dispatcher.settings import DispatcherSettings
from headrace_ingress.settings import IngressSettings
from headrace_sources.settings import SourcesSettings
from tests.chart.rendering import ROOT, VALUE_SETS, Object, named, pods, services
from tests.unit.tree.settings_page import KINDS

MOUNTED = "/etc/headrace/"
SECRETS = {
    "kafka-credentials": {"protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-256"},
    "kafka-dispatcher": {"protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512"},
    "kafka-sources": {"protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"},
}


class Started(Exception):
    """Instead of the service."""


@pytest.fixture(name="mounted")
def _mounted(tmp_path: Path) -> Path:
    """The files that Secrets and ConfigMaps provide in a pod."""
    secrets = {
        "kafka": ("user", "password", "ca.crt", "user.crt", "user.key"),
        "kafka-tls": ("ca.crt", "tls.crt", "tls.key"),
    }
    for secret, names in secrets.items():
        (tmp_path / secret).mkdir()
        for name in names:
            (tmp_path / secret / name).write_text("secret")
    return tmp_path


def _environment(container: Object, mounted: Path) -> dict[str, str]:
    """The variables of a container as the kubelet sets them."""
    found = {}
    for each in container["env"]:
        source = each.get("valueFrom", {})
        if "secretKeyRef" in source:
            reference = source["secretKeyRef"]
            found[each["name"]] = SECRETS[reference["name"]][reference["key"]]
        elif "fieldRef" in source:
            found[each["name"]] = "headrace-pod-0"
        else:
            found[each["name"]] = each["value"].replace(MOUNTED, f"{mounted}/")
    return found


def _start(
    container: Object, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, Settings]:
    """Run a container's command; the settings that its service gets."""
    given: dict[str, Settings] = {}

    def record(module: str, **settings: Any) -> None:
        given.update(settings)
        raise Started(module)

    monkeypatch.setattr("headrace_cli.services.exec_module", record)
    arguments = container["args"]
    result = typer.testing.CliRunner().invoke(
        application(arguments), arguments, env=_environment(container, mounted)
    )
    assert isinstance(result.exception, Started), result.output
    return given


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_each_variable_is_a_setting(value_set: str) -> None:
    """A service refuses to start with a variable of Headrace that it does not know."""
    known = known_variables(KINDS)
    for container in services(value_set).values():
        names = [each["name"] for each in container["env"]]
        own = [name for name in names if not name.startswith("OTEL_")]
        assert [] == [name for name in own if name not in known]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_each_command_starts_its_service(
    value_set: str, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under its name, on the port that the probes use, reachable from other pods."""
    for name, container in services(value_set).items():
        assert name == container["args"][0]
        management = _start(container, mounted, monkeypatch)["management"]
        assert isinstance(management, ManagementSettings)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ("0.0.0.0", ports["management"]) == (management.host, management.port)
        assert (value_set == "everything") is management.knative_metrics


def test_traces_are_recorded_where_a_collector_is_named(mounted: Path) -> None:
    """By every process that handles events, with the sampler and the attributes of the values."""
    for name, container in services("everything").items():
        environment = _environment(container, mounted)
        given = {key: value for key, value in environment.items() if key.startswith("OTEL_")}
        if name == "controller":
            assert {} == given
            continue
        assert {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://otel-collector.observability:4319/otlp",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.05",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=production",
        } == given
        tracing = tracing_from_environment(Metrics(process=False), name, given)
        assert tracing is not None
    for container in services("default").values():
        assert not [each for each in container["env"] if each["name"].startswith("OTEL_")]


def test_the_ports_of_events_and_webhooks(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The services listen on the ports that are named `http`."""
    containers = services("everything")
    ingress = _start(containers["ingress"], mounted, monkeypatch)["own"]
    assert isinstance(ingress, IngressSettings)
    assert ("0.0.0.0", 8080, 3, 5.0) == (
        ingress.host,
        ingress.port,
        ingress.workers,
        ingress.shutdown_delay_seconds,
    )
    sources = _start(containers["sources"], mounted, monkeypatch)["own"]
    assert isinstance(sources, SourcesSettings)
    assert ("0.0.0.0", 8084, "https://hooks.example.com", True, 5.0) == (
        sources.host,
        sources.port,
        sources.public_url,
        sources.kubernetes,
        sources.shutdown_delay_seconds,
    )
    given = _start(containers["in-memory"], mounted, monkeypatch)["ingress"]
    assert isinstance(given, IngressSettings)
    assert ("0.0.0.0", 8082) == (given.host, given.port)


def test_the_controller_of_a_cluster(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses are those of the Services, and the ConfigMaps are read in the release's
    namespace.
    """
    given = _start(services("namespaced")["controller"], mounted, monkeypatch)
    own, cluster = given["own"], given["cluster"]
    assert isinstance(own, ControllerSettings)
    assert isinstance(cluster, KubernetesSettings)
    assert "http://headrace-ingress.knative-eventing.svc.cluster.local" == own.ingress_url
    assert "headrace-pod-0" == own.instance
    assert ("shop", "orders", "knative-eventing") == cluster.served_namespaces()
    assert (True, True, False) == (cluster.channels, cluster.sources, cluster.legacy)
    assert "headrace-controller" == cluster.lease


def test_other_addresses_and_kinds(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the values say."""
    given = _start(services("everything")["controller"], mounted, monkeypatch)
    own, cluster = given["own"], given["cluster"]
    assert isinstance(own, ControllerSettings)
    assert isinstance(cluster, KubernetesSettings)
    assert "https://events.example.com" == own.ingress_url
    assert (
        "http://headrace-events-in-memory.knative-eventing.svc.example.internal"
        == own.in_memory_url
    )
    assert ("example.internal", False) == (own.cluster_domain, cluster.channels)


def test_kafka_is_used_with_the_secret(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protocol and mechanism are variables, everything secret is a file."""
    for name, container in services("secured").items():
        if name == "dispatcher":
            continue
        kafka = _start(container, mounted, monkeypatch)["kafka"]
        assert isinstance(kafka, KafkaSettings)
        assert SecurityProtocol.SASL_SSL == kafka.security_protocol
        plain = name in ("ingress", "sources")
        assert ("PLAIN" if plain else "SCRAM-SHA-256") == kafka.sasl_mechanism
        assert [
            mounted / "kafka" / file
            for file in ("user", "password", "ca.crt", "user.crt", "user.key")
        ] == [
            kafka.sasl_username_file,
            kafka.sasl_password_file,
            kafka.ssl_ca_file,
            kafka.ssl_certificate_file,
            kafka.ssl_key_file,
        ]
        [mount] = [each for each in container["volumeMounts"] if each["name"] == "kafka"]
        assert ("/etc/headrace/kafka", True) == (mount["mountPath"], mount["readOnly"])


def test_a_component_can_have_a_login_of_its_own(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that Kafka knows the services by different principals. What is not set for it is that of
    all.
    """
    pods_of = dict(pods("secured"))
    secrets = {
        name: [each["secret"]["secretName"] for each in pod["volumes"] if each["name"] == "kafka"]
        for name, pod in pods_of.items()
    }
    assert {
        "controller": ["kafka-credentials"],
        "dispatcher": ["kafka-dispatcher"],
        "ingress": ["kafka-credentials"],
        "sources": ["kafka-sources"],
        "test": [],
    } == secrets
    kafka = _start(services("secured")["dispatcher"], mounted, monkeypatch)["kafka"]
    assert isinstance(kafka, KafkaSettings)
    assert SecurityProtocol.SASL_PLAINTEXT == kafka.security_protocol
    assert (None, None) == (kafka.ssl_ca_file, kafka.ssl_certificate_file)


def test_the_ingress_reads_its_certificate_from_the_secret(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From where it is mounted."""
    container = services("https")["ingress"]
    own = _start(container, mounted, monkeypatch)["own"]
    assert isinstance(own, IngressSettings)
    directory = mounted / "certificate"
    assert (directory / "tls.crt", directory / "tls.key") == (
        own.tls_certificate_file,
        own.tls_key_file,
    )
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "certificate"]
    assert ("/etc/headrace/certificate", True) == (mount["mountPath"], mount["readOnly"])
    [volume] = [each for each in dict(pods("https"))["ingress"]["volumes"] if "secret" in each]
    assert "ingress-certificate" == volume["secret"]["secretName"]


def test_the_values_for_cert_manager_are_those_of_the_documentation() -> None:
    """The tests of this folder use the same."""
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (example,) = re.findall(r"```yaml\n(# values\.yaml\n.*?)```", page, re.DOTALL)
    values = yaml.safe_load((ROOT / "tests/chart/values/cert-manager.yaml").read_text())
    assert yaml.safe_load(example) == {"common": values["common"]}


def test_kafka_is_used_with_a_certificate_of_cert_manager(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each service reads it where it is mounted, as a directory: only then it is renewed."""
    for container in services("cert-manager").values():
        kafka = _start(container, mounted, monkeypatch)["kafka"]
        assert isinstance(kafka, KafkaSettings)
        assert SecurityProtocol.SSL == kafka.security_protocol
        assert mounted / "kafka-tls" / "tls.crt" == kafka.ssl_certificate_file
        [mount] = [each for each in container["volumeMounts"] if each["name"] == "kafka-tls"]
        assert ("/etc/headrace/kafka-tls", None) == (mount["mountPath"], mount.get("subPath"))


def test_numbers_keep_their_digits(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Helm reads numbers as floating point, and would write large ones with an exponent."""
    own = _start(services("secured")["ingress"], mounted, monkeypatch)["own"]
    assert isinstance(own, IngressSettings)
    assert (134_217_728, 2.5) == (own.bytes_max, own.drain_seconds)


def test_the_egress_policy_reaches_the_services_that_post(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the controller, which fetches schemas."""
    for name in ("dispatcher", "sources", "controller"):
        own = _start(services("secured")[name], mounted, monkeypatch)["own"]
        assert isinstance(own, DispatcherSettings | SourcesSettings | ControllerSettings)
        assert ("0.0.0.0/0", "10.0.0.0/8,192.168.0.0/16") == (own.egress_deny, own.egress_allow)


def test_the_ports_in_network_policies_are_those_of_containers() -> None:
    """By name."""
    for name, container in services("default").items():
        policy = named("default", "NetworkPolicy", f"headrace-{name}")["spec"]
        named_ports = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
        assert {port["name"] for port in container["ports"]} == named_ports
