"""Values: described, in the schema, and refused where they are wrong, with a message that helps."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import headrace
from tests.chart.rendering import (
    CHART,
    NAMESPACE,
    RELEASE,
    ROOT,
    VALUE_SETS,
    file_of,
    helm,
    of_kind,
    text_of,
)
from tests.chart.values_page import PAGE, defaults, page, undescribed

SCHEMA: Mapping[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
KAFKA = "kafka.bootstrapServers=kafka:9092"
COMPONENTS = ("ingress", "dispatcher", "controller", "sources", "inMemory")


def test_each_value_is_described() -> None:
    """By a comment above it, or above the map or list that it is part of."""
    assert [] == undescribed()


def test_the_readme_has_the_table_of_values() -> None:
    """It is the output of `python -m tests.chart.values_page`."""
    assert page() == PAGE.read_text(encoding="utf-8")


LATER = (
    "tracing",
    "ingress.tls",
    "common.kafka",
    "controller.shutdownDelaySeconds",
    "sources.shutdownDelaySeconds",
    "metrics.installation",
    "metrics.knativeNames",
)
"""Values that the first version of the chart did not have. `helm upgrade --reuse-values` renders a
newer chart without them.
"""


def test_values_of_an_earlier_chart_are_enough() -> None:
    """What they lack is off."""
    missing = [part for each in LATER for part in ("--set", f"{each}=null")]
    done = helm("template", RELEASE, str(CHART), "--set", KAFKA, *missing, check=False)
    assert 0 == done.returncode, done.stderr
    assert "OTEL_" not in done.stdout


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        target: Any = SCHEMA
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema


def _blocks(
    schema: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Each object of the schema that lists its properties, with its path."""
    schema = _resolved(schema)
    if "properties" in schema:
        yield path, schema
        for key, each in schema["properties"].items():
            yield from _blocks(each, (*path, key))


BLOCKS = dict(_blocks(SCHEMA))


@pytest.mark.parametrize("path", BLOCKS, ids=".".join)
def test_a_block_refuses_unknown_fields(path: tuple[str, ...]) -> None:
    """By `additionalProperties: false`; the map `global` belongs to a parent chart."""
    assert BLOCKS[path].get("additionalProperties") is False


def test_the_schema_has_the_values_and_no_others() -> None:
    """A component also has what is in `common`."""
    values = defaults()
    assert set(values) | {"global"} == set(BLOCKS[()]["properties"])
    for path, block in BLOCKS.items():
        value: Any = values
        for key in path:
            value = value.get(key, {}) if isinstance(value, Mapping) else {}
        inherited = set(values["common"]) if len(path) == 1 and path[0] in COMPONENTS else set()
        if isinstance(value, Mapping) and value:
            assert set(value) - {"global"} <= set(block["properties"])
            optional = inherited | {"global", "claims"}
            assert set(block["properties"]) - optional <= set(value), path


def _refused(*settings: str) -> str:
    """The message with which helm refuses these values."""
    options = [part for each in (KAFKA, *settings) for part in ("--set", each)]
    done = helm("template", RELEASE, str(CHART), "-n", NAMESPACE, *options, check=False)
    assert done.returncode != 0, f"{settings} accepted"
    return done.stderr


TYPOS = sorted({".".join(path) for path in BLOCKS if len(path) <= 3} - {""})


def test_a_typo_is_refused_by_name_in_each_block(tmp_path: Path) -> None:
    """One wrong field in every block at once: the message names each of them."""
    wrong: dict[str, Any] = {"typo": 1, "kafka": {"bootstrapServers": "kafka:9092"}}
    for name in TYPOS:
        block = wrong
        for key in name.split("."):
            block = block.setdefault(key, {})
        block["typo"] = 1
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(wrong))
    done = helm("template", RELEASE, str(CHART), "-f", str(path), check=False)
    assert done.returncode != 0
    missed = [
        name
        for name in ["", *TYPOS]
        if f"'/{name.replace('.', '/')}': additional properties 'typo'" not in done.stderr
        and not (name == "" and "'': additional properties 'typo'" in done.stderr)
    ]
    assert [] == missed, done.stderr


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("mode=cloud", "/mode"),
        ("kafka.bootstrapServers=kafka", "/kafka/bootstrapServers"),
        ("ingress.replicas=many", "/ingress/replicas"),
        ("ingress.workers=0", "/ingress/workers"),
        ("ingress.url=events.example.com", "/ingress/url"),
        ("ingress.image.digest=sha256:1", "/ingress/image/digest"),
        ("common.logging.level=loud", "/common/logging/level"),
        ("controller.logging.level=loud", "/controller/logging/level"),
        ("dispatcher.keda.minReplicas=0", "/dispatcher/keda/minReplicas"),
        ("namespaces={Shop}", "/namespaces/0"),
        ("networkPolicy.kafkaPorts={0}", "/networkPolicy/kafkaPorts/0"),
        ("common.extraEnv[0].value=x", "/common/extraEnv/0"),
        (
            r"common.podLabels.app\.kubernetes\.io/name=x",
            "/common/podLabels/app.kubernetes.io~1name",
        ),
        ("ingress.env.log-level=debug", "/ingress/env"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(setting: str, field: str) -> None:
    """By the schema."""
    assert f"'{field}'" in _refused(setting)


@pytest.mark.parametrize(
    ("settings", "named", "example"),
    [
        (
            ["kafka.bootstrapServers="],
            "kafka.bootstrapServers is required",
            "--set kafka.bootstrapServers=kafka.kafka.svc:9092",
        ),
        (
            ["mode=standalone", "controller.replicas=2"],
            "controller.replicas must be 1",
            "--set controller.replicas=1",
        ),
        (["mode=standalone", "namespaces={shop}"], "namespaces has no effect", "mode=cluster"),
        (
            ["namespaces={shop}", "tests.namespace=other"],
            "tests.namespace must be one of",
            "--set tests.namespace=shop",
        ),
        (
            ["dispatcher.keda.enabled=true"],
            "dispatcher.keda.prometheusUrl is required",
            "--set dispatcher.keda.prometheusUrl=http://",
        ),
        (
            ["dispatcher.keda.minReplicas=20"],
            "dispatcher.keda.minReplicas must not be greater",
            "--set dispatcher.keda.maxReplicas=10",
        ),
        (
            ["ingress.autoscaling.minReplicas=20"],
            "ingress.autoscaling.minReplicas must not be greater",
            "--set ingress.autoscaling.maxReplicas=10",
        ),
        (
            ["ingress.tls.existingSecret=certificate", "ingress.url=http://events.example.com"],
            "ingress.url must begin with https://",
            "--set ingress.url=https://events.example.com",
        ),
        (
            ["expose.httpRoute.enabled=true"],
            "expose.httpRoute.parentRefs is required",
            "--set 'expose.httpRoute.parentRefs[0].name=public'",
        ),
        (
            ["expose.ingress.enabled=true"],
            "expose.ingress.hosts is required",
            "--set 'expose.ingress.hosts={events.example.com}'",
        ),
        (
            ["metrics.podMonitor.enabled=true", "metrics.serviceMonitor.enabled=true"],
            "would scrape each pod twice",
            "--set metrics.serviceMonitor.enabled=false",
        ),
    ],
    ids=lambda each: each[-1] if isinstance(each, list) else None,
)
def test_values_that_do_not_fit_together_are_refused(
    settings: list[str], named: str, example: str
) -> None:
    """With the name of the value, and an example."""
    message = _refused(*settings)
    assert named in message
    assert example in message


def test_the_chart_has_the_version_of_the_application() -> None:
    """And the licence of the project."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert headrace.__version__ == chart["appVersion"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == chart["annotations"]["artifacthub.io/license"]


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_helm_finds_nothing_to_complain_about(value_set: str) -> None:
    """`helm lint --strict`."""
    helm("lint", str(CHART), "--strict", "-f", str(file_of(value_set)))


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_no_secret_is_rendered(value_set: str) -> None:
    """Except the Secret that the chart generates; the token is nowhere else."""
    secrets = of_kind(value_set, "Secret")
    assert (value_set == "standalone") == bool(secrets)
    text = text_of(value_set)
    for each in secrets:
        for value in each["data"].values():
            assert 1 == text.count(value)
    for each in of_kind(value_set, "ConfigMap"):
        assert "token:" not in "".join(each["data"].values())
