"""The pod template of a workload, and the environment variables that bind it to a sink.

A workload is any object with a pod template in `spec.template`: Deployment, StatefulSet, DaemonSet,
Job, and others of that form.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from headrace.domain.sink_variables import CA_CERTS, OVERRIDES, SINK, SinkVariables
from headrace.resources.resource import Resource

Container = Mapping[str, Any]

CONTAINER_LISTS = ("initContainers", "containers")
_BOUND = frozenset({SINK, OVERRIDES, CA_CERTS})
"""The variables that a binding sets, and removes."""


def pod_spec_of(workload: Resource) -> Mapping[str, Any] | None:
    """`spec.template.spec`; None for an object that has no containers there."""
    template = workload.spec.get("template")
    found = template.get("spec") if isinstance(template, Mapping) else None
    return found if isinstance(found, Mapping) and list_of(found, "containers") else None


def list_of(fields: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    """The objects in a list of a template, whose types another API server has checked."""
    entries = fields.get(name)
    return [each for each in entries if isinstance(each, Mapping)] if entries else ()


def containers_of(pod: Mapping[str, Any]) -> Iterator[tuple[str, Container]]:
    """Every container with its path in the pod's spec."""
    for name in CONTAINER_LISTS:
        for index, each in enumerate(list_of(pod, name)):
            yield f"{name}[{index}]", each


def with_variables(pod: Mapping[str, Any], variables: SinkVariables) -> dict[str, Any]:
    """The pod's spec with the sink in every container."""
    return _with_containers(pod, lambda each: _bound(each, variables))


def without_variables(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The pod's spec without what a binding has set."""
    return _with_containers(pod, _unbound)


def with_pod_spec(workload: Resource, pod: Mapping[str, Any]) -> Resource:
    """The workload with this pod."""
    template = {**workload.spec["template"], "spec": pod}
    spec = {**workload.spec, "template": template}
    return Resource(workload.kind, {**workload.object, "spec": spec})


def _with_containers(
    pod: Mapping[str, Any], change: Callable[[Container], Container]
) -> dict[str, Any]:
    lists = {name: [change(each) for each in list_of(pod, name)] for name in CONTAINER_LISTS}
    return {**pod, **{name: found for name, found in lists.items() if found}}


def _bound(container: Container, variables: SinkVariables) -> Container:
    """The container itself if it has these values: another order is no reason to write it."""
    wanted = variables.environment()
    present = list_of(container, "env")
    own = _BOUND | wanted.keys()
    values = {each.get("name"): each for each in present if each.get("name") in own}
    result = dict(container)
    if values != {name: {"name": name, "value": value} for name, value in wanted.items()}:
        others = [each for each in present if each.get("name") not in own]
        result["env"] = [
            *others,
            *({"name": name, "value": value} for name, value in wanted.items()),
        ]
    if variables.legacy:
        given = container.get("args")
        result["args"] = variables.arguments(list(map(str, given)) if given else [])
    return result


def _unbound(container: Container) -> Container:
    present = list_of(container, "env")
    others = [each for each in present if each.get("name") not in _BOUND]
    if len(others) == len(present):
        return container
    rest = {name: value for name, value in container.items() if name != "env"}
    return {**rest, "env": others} if others else rest
