"""The chart as helm renders it. Each file in `values` is a set of values, and is rendered once."""

import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.kubernetes import tool

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "headrace"
VALUES = Path(__file__).parent / "values"
VALUE_SETS = sorted(each.stem for each in VALUES.glob("*.yaml"))
RELEASE, NAMESPACE = "headrace", "knative-eventing"
HELM_SECONDS = 60.0
UNPROVEN = (
    "not proven here: needs helm in KUBEBUILDER_ASSETS or on PATH (.ci/kube-tools builds it with"
    " the Go toolchain)"
)
WORKLOADS = ("Deployment", "StatefulSet")

Object = Mapping[str, Any]


def helm(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run helm; skips the test where there is none."""
    binary = tool("helm")
    if binary is None:
        pytest.skip(UNPROVEN)
    done = subprocess.run(
        [binary, *arguments], capture_output=True, text=True, check=False, timeout=HELM_SECONDS
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def file_of(value_set: str) -> Path:
    """The file with a set of values."""
    return VALUES / f"{value_set}.yaml"


@cache
def text_of(value_set: str, *more: str) -> str:
    """What helm renders with a set of values, and `more` options."""
    return helm(
        "template", RELEASE, str(CHART), "-n", NAMESPACE, "-f", str(file_of(value_set)), *more
    ).stdout


@cache
def objects(value_set: str, *more: str) -> tuple[Object, ...]:
    """The rendered objects, those of `helm test` included. Do not change them."""
    documents = yaml.load_all(text_of(value_set, *more), Loader=yaml.CSafeLoader)
    return tuple(each for each in documents if each)


def of_kind(value_set: str, *kinds: str) -> list[Object]:
    """The rendered objects of some kinds."""
    return [each for each in objects(value_set) if each["kind"] in kinds]


def named(value_set: str, kind: str, name: str) -> Object:
    """One rendered object, by kind and name."""
    [found] = [each for each in of_kind(value_set, kind) if each["metadata"]["name"] == name]
    return found


def component(each: Object) -> str:
    """The component that an object belongs to, by its label."""
    return str(each["metadata"]["labels"]["app.kubernetes.io/component"])


def pods(value_set: str) -> Iterator[tuple[str, Object]]:
    """Component and spec of each pod: those of workloads, and that of `helm test`."""
    for each in objects(value_set):
        if each["kind"] in WORKLOADS:
            yield component(each), each["spec"]["template"]["spec"]
        elif each["kind"] == "Pod":
            yield component(each), each["spec"]


def services(value_set: str) -> dict[str, Object]:
    """The container of each service's pods, by component."""
    return {
        component(each): each["spec"]["template"]["spec"]["containers"][0]
        for each in of_kind(value_set, *WORKLOADS)
    }


def values_of(value_set: str) -> dict[str, Any]:
    """A set of values."""
    return dict(yaml.safe_load(file_of(value_set).read_text(encoding="utf-8")))
