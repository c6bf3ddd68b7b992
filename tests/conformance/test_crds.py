"""The CRD files: what Kubernetes and its tools need of them, what the kinds share, and samples for
every rule.

Nothing is run here. The same samples are for API servers, which must accept (`crds/valid`,
`crds/changes`) or reject (`crds/invalid`) them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from headrace.adapters.manifests import read_paths
from headrace.domain.field_errors import FieldError
from headrace.resources import broker, trigger
from headrace.resources.kinds import BROKER, TRIGGER
from headrace.resources.resource import Resource

ROOT = Path(__file__).parents[2]
CRDS = {
    Path(each.source).stem: each.document
    for each in read_paths([ROOT / "charts/headrace/files/crds"])
}
SAMPLES = Path(__file__).parent / "crds"
VALID = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((SAMPLES / "valid").glob("*.yaml"))
}
INVALID = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((SAMPLES / "invalid").glob("*.yaml"))
}
CHANGES = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((SAMPLES / "changes").glob("*.yaml"))
}
RULES, FREE = "x-kubernetes-validations", "x-kubernetes-preserve-unknown-fields"
Schema = Mapping[str, Any]

READY = ("Ready", "Reason")
TABLE: dict[str, tuple[str, str, tuple[str, ...], str, str, tuple[str, ...]]] = {
    # kind: group (Knative's without its domain), versions (storage first), short names, labels of
    # `LABELS`, categories besides all and knative, columns
    "broker": ("eventing", "v1 v1alpha1", (), "a", "eventing", ("URL", "Age", *READY, "Class")),
    "trigger": (
        "eventing",
        "v1 v1alpha1",
        (),
        "",
        "eventing",
        ("Broker", "Subscriber_URI", "Age", *READY, "Delivery"),
    ),
    "eventtype": (
        "eventing",
        "v1beta2 v1beta3 v1beta1 v1alpha1",
        (),
        "",
        "eventing",
        (
            *("Type", "Source", "Schema", "Reference Name", "Reference Kind", "Description"),
            *(*READY, "Receivers", "Validation"),
        ),
    ),
    "eventpolicy": ("eventing", "v1alpha1", (), "", "eventing", READY),
    "kafkasink": ("eventing", "v1alpha1", (), "a", "eventing", ("URL", "Age", *READY)),
    "clusterchannelprovisioner": (
        "eventing",
        "v1alpha1",
        ("ccp",),
        "",
        "",
        (*READY, "Age"),
    ),
    "legacychannel": (
        "eventing",
        "v1alpha1",
        ("chan",),
        "a",
        "eventing",
        (*READY, "Hostname", "Age"),
    ),
    "legacysubscription": ("eventing", "v1alpha1", (), "", "eventing", (*READY, "Age")),
    "channel": ("messaging", "v1", ("ch",), "ac", "messaging channel", ("URL", "Age", *READY)),
    "inmemorychannel": (
        "messaging",
        "v1",
        ("imc",),
        "ac",
        "messaging channel",
        ("URL", "Age", *READY),
    ),
    "kafkachannel": (
        "messaging",
        "v1beta1 v1",
        ("kc",),
        "ac",
        "messaging channel",
        (*READY, "URL", "Age"),
    ),
    "natsjetstreamchannel": (
        "messaging",
        "v1alpha1",
        ("njsc",),
        "ac",
        "messaging channel",
        (*READY, "URL", "Age"),
    ),
    "subscription": ("messaging", "v1", ("sub",), "", "messaging", ("Age", *READY, "Delivery")),
    "sequence": ("flows", "v1", (), "a", "flows", ("URL", "Age", *READY)),
    "parallel": ("flows", "v1", (), "a", "flows", ("URL", "Age", *READY)),
    "pingsource": ("sources", "v1", (), "s", "sources", ("Sink", "Schedule", "Age", *READY)),
    "apiserversource": ("sources", "v1", (), "s", "sources", ("Sink", "Age", *READY)),
    "containersource": ("sources", "v1", (), "s", "sources", ("Sink", "Age", *READY)),
    "sinkbinding": ("sources", "v1", (), "sb", "sources bindings", ("Sink", "Age", *READY)),
    "integrationsource": ("sources", "v1alpha1", (), "s", "sources", ("Sink", "Age", *READY)),
    "kafkasource": (
        "sources",
        "v1beta1 v1",
        (),
        "s",
        "eventing sources",
        ("Topics", "BootstrapServers", "Sink", *READY, "Age"),
    ),
    "githubsource": ("sources", "v1alpha1", (), "s", "eventing sources", (*READY, "Sink", "Age")),
    "legacykuberneteseventsource": (
        "sources.eventing",
        "v1alpha1",
        (),
        "s",
        "eventing sources",
        (*READY, "Sink", "Age"),
    ),
    "legacycronjobsource": (
        "sources.eventing",
        "v1alpha1",
        (),
        "s",
        "eventing sources",
        (*READY, "Schedule", "Sink", "Age"),
    ),
    "legacycontainersource": (
        "sources.eventing",
        "v1alpha1",
        (),
        "s",
        "eventing sources",
        (*READY, "Sink", "Age"),
    ),
    "legacyawssqssource": (
        "sources.eventing",
        "v1alpha1",
        (),
        "s",
        "eventing sources",
        (*READY, "Sink", "Age"),
    ),
    "legacygithubsource": (
        "sources.eventing",
        "v1alpha1",
        (),
        "s",
        "eventing sources",
        (*READY, "Sink", "Age"),
    ),
    "legacykafkasource": (
        "sources.eventing",
        "v1alpha1",
        (),
        "s",
        "eventing sources",
        (*READY, "Sink", "Age"),
    ),
    "cloudpubsubsource": (
        "events.cloud.google.com",
        "v1",
        (),
        "s",
        "cloudpubsubsource sources",
        (*READY, "Sink", "Age"),
    ),
    "legacygcppubsubsource": (
        "sources.eventing",
        "v1alpha1",
        (),
        "s",
        "eventing sources",
        (*READY, "Sink", "Age"),
    ),
    "webhooksource": (
        "sources.headrace.dev",
        "v1alpha1",
        (),
        "s",
        "sources",
        ("URL", "Sink", "Age", *READY),
    ),
    "camelsource": (
        "sources.headrace.dev",
        "v1alpha1",
        (),
        "s",
        "sources",
        ("Sink", "Age", *READY),
    ),
    "legacycamelsource": (
        "sources.eventing",
        "v1alpha1",
        (),
        "s",
        "eventing sources",
        ("Sink", "Age", *READY),
    ),
}
OLD_COLUMNS = {
    "broker": (*READY, "Hostname", "Age"),
    "trigger": (*READY, "Broker", "Subscriber_URI", "Age"),
    "eventtype": (
        "Type",
        "Source",
        "Schema",
        "Reference Name",
        "Reference Kind",
        "Description",
        *READY,
    ),
}
"""The columns of v1alpha1, where they are others than those of today."""
KINDS = {
    "legacychannel": "channel",
    "legacysubscription": "subscription",
    "legacygcppubsubsource": "gcppubsubsource",
    "legacycronjobsource": "cronjobsource",
    "legacycontainersource": "containersource",
    "legacyawssqssource": "awssqssource",
    "legacygithubsource": "githubsource",
    "legacykuberneteseventsource": "kuberneteseventsource",
    "legacycamelsource": "camelsource",
    "legacykafkasource": "kafkasource",
}
"""The kind in a file that has not its name: another group has a kind of this name too."""
CLUSTER_SCOPED = {"clusterchannelprovisioner"}
OLD_KINDS = CLUSTER_SCOPED | KINDS.keys()
LABELS = {
    "a": {"duck.knative.dev/addressable"},
    "b": {"duck.knative.dev/binding"},
    "c": {"duck.knative.dev/channelable", "messaging.knative.dev/subscribable"},
    "s": {"duck.knative.dev/source", "eventing.knative.dev/source"},
}
FREE_FIELDS = (
    *("metadata", "spec", "containers", "subscribers", "all", "any", "not", "arguments"),
    *("flow", "integration"),
)


class Place(NamedTuple):
    """A schema and its place: the kind, the version and the field path below the object."""

    kind: str
    version: str
    path: tuple[str, ...]
    schema: Schema


def _walk(kind: str, version: str, schema: Schema, path: tuple[str, ...] = ()) -> Iterator[Place]:
    yield Place(kind, version, path, schema)
    for name, each in schema.get("properties", {}).items():
        yield from _walk(kind, version, each, (*path, name))
    if "items" in schema:
        yield from _walk(kind, version, schema["items"], (*path, "[]"))
    if "additionalProperties" in schema:
        yield from _walk(kind, version, schema["additionalProperties"], (*path, "*"))


PLACES = [
    place
    for kind, crd in CRDS.items()
    for version in crd["spec"]["versions"]
    for place in _walk(kind, version["name"], version["schema"]["openAPIV3Schema"])
]


def _schema(kind: str, version: str) -> Schema:
    return next(
        place.schema
        for place in PLACES
        if (place.kind, place.version, place.path) == (kind, version, ())
    )


def _spec(kind: str, version: str) -> dict[str, Any]:
    return dict(_schema(kind, version)["properties"]["spec"]["properties"])


def _bare(schema: Any, *without: str) -> Any:
    """A schema without its descriptions, which differ between the places of a shared part."""
    if isinstance(schema, Mapping):
        # A field may be called description too; its value is a schema.
        left_out = {
            name
            for name, value in schema.items()
            if name == "description" and isinstance(value, str)
        } | set(without)
        return {
            name: _bare(value, *without) for name, value in schema.items() if name not in left_out
        }
    return [_bare(each, *without) for each in schema] if isinstance(schema, list) else schema


def _todays(schema: Schema, *without: str) -> Any:
    """A bare schema without `dnsName`, which only the subscriber of a Trigger may have."""
    bare = _bare(schema, *without)
    if "dnsName" in bare.get("properties", {}):
        del bare["properties"]["dnsName"]
        for rule in bare.get(RULES, ()):
            rule["rule"] = rule["rule"].replace(" || (has(self.dnsName) && self.dnsName != '')", "")
    return bare


def test_there_is_one_file_per_kind() -> None:
    """A file has the name of the kind of its one CRD, and the strict reader of manifests accepts
    it.
    """
    assert set(TABLE) == set(CRDS)
    for name, crd in CRDS.items():
        assert KINDS.get(name, name) == crd["spec"]["names"]["singular"]
    assert len(CRDS) == len({crd["metadata"]["name"] for crd in CRDS.values()})


@pytest.mark.clause("O1")
@pytest.mark.parametrize("kind", TABLE)
def test_a_crd_has_the_names_and_versions_of_knative(kind: str) -> None:
    """Group, names, versions, labels and categories are those that kubectl, kn and installers look
    for.
    """
    group, versions, short, labels, categories, columns = TABLE[kind]
    crd = CRDS[kind]
    spec = crd["spec"]
    scope = "Cluster" if kind in CLUSTER_SCOPED else "Namespaced"
    domain = group if group.endswith((".dev", ".com")) else f"{group}.knative.dev"
    assert (domain, scope, {"strategy": "None"}) == (
        spec["group"],
        spec["scope"],
        spec["conversion"],
    )
    assert f"{spec['names']['plural']}.{spec['group']}" == crd["metadata"]["name"]
    assert (KINDS.get(kind, kind), list(short)) == (
        spec["names"]["kind"].lower(),
        spec["names"].get("shortNames", []),
    )
    # `kubectl get all` would warn of the kinds of Knative 0.5 where nobody uses them.
    every = [] if kind in OLD_KINDS else ["all"]
    # `kubectl get knative` too, of objects that the controller creates.
    listed = [] if kind in CLUSTER_SCOPED else [*every, "knative"]
    assert [*listed, *categories.split()] == spec["names"].get("categories", [])
    assert versions.split() == [each["name"] for each in spec["versions"]]
    assert [True] + [False] * versions.count(" ") == [each["storage"] for each in spec["versions"]]
    expected = {"knative.dev/crd-install"}.union(*(LABELS[letter] for letter in labels))
    assert expected == {
        name for name, value in crd["metadata"]["labels"].items() if value == "true"
    }
    for version in spec["versions"]:
        assert version["served"] and version["subresources"]["status"] == {}
        named = OLD_COLUMNS.get(kind, columns) if version["name"] == "v1alpha1" else columns
        shown = version["additionalPrinterColumns"]
        # Knative has no Schema column in v1beta3, the version that kubectl shows, and no Delivery:
        # a subscriber that is down is visible in no list there.
        assert list(named) == [each["name"] for each in shown]
        wide = {"Class", "Receivers", "Validation"}
        assert wide & set(named) == {
            each["name"] for each in shown if each.get("priority", 0) > 0
        }, "a Broker's class, and what Headrace adds to an EventType, is for wide tables only"


@pytest.mark.clause("O5")
def test_registered_event_types_are_a_json_list() -> None:
    """Sources whose event types are known in advance have an annotation with them, as JSON with a
    type each.
    """
    found = {
        kind: crd["metadata"].get("annotations", {}).get("registry.knative.dev/eventTypes")
        for kind, crd in CRDS.items()
    }
    lists = {kind: yaml.safe_load(text) for kind, text in found.items() if text}
    knative = {"pingsource", "apiserversource", "kafkasource", "githubsource"}
    assert knative | {"cloudpubsubsource"} == set(lists)
    assert all(each["type"].startswith("dev.knative.") for kind in knative for each in lists[kind])
    published = "google.cloud.pubsub.topic.v1.messagePublished"
    assert [published] == [each["type"] for each in lists["cloudpubsubsource"]]


@pytest.mark.clause("O1")
def test_every_kind_of_source_shows_its_sink_and_whether_it_is_ready() -> None:
    """In `kubectl get sources`, a table of each kind. That of Knative's KafkaSource has no sink."""
    sources = [
        crd["spec"]
        for crd in CRDS.values()
        if "sources" in crd["spec"]["names"].get("categories", ())
    ]
    assert len(sources) == 18
    for spec in sources:
        for version in spec["versions"]:
            shown = {
                each["name"]: each["jsonPath"]
                for each in version["additionalPrinterColumns"]
                if not each.get("priority")
            }
            assert shown["Sink"] == ".status.sinkUri", spec["names"]["kind"]
            assert {*READY, "Age"} <= shown.keys()


def test_each_kind_of_source_is_in_the_documents() -> None:
    """Those of today in the table of sources, those of Knative 0.5 in that of legacy kinds."""
    pages = {name: (ROOT / "docs" / name).read_text() for name in ("sources.md", "legacy.md")}
    for name, crd in CRDS.items():
        spec = crd["spec"]
        if "sources" not in spec["names"].get("categories", ()) or name == "sinkbinding":
            continue
        kind = spec["names"]["kind"]
        if name in KINDS:
            assert f"\n| {kind} |" in pages["legacy.md"]
        else:
            assert f"\n| `{kind}`" in pages["sources.md"]


def test_every_field_is_described() -> None:
    """`kubectl explain` has a description of every field; kubectl knows metadata itself."""
    silent = [
        place
        for place in PLACES
        if place.path and place.path[-1] not in ("[]", "*") and not place.schema.get("description")
    ]
    assert [] == [
        f"{place.kind} {'.'.join(place.path)}" for place in silent if place.path != ("metadata",)
    ]


def test_schemas_are_structural() -> None:
    """Every part of a schema has one type, and either named fields or any."""
    assert all(
        place.schema.get("type") in ("object", "array", "string", "integer", "boolean")
        for place in PLACES
    )
    assert [] == [
        place
        for place in PLACES
        if {"$ref", "oneOf", "anyOf", "allOf", "not"} & place.schema.keys()
    ]
    assert [] == [
        place
        for place in PLACES
        if "properties" in place.schema and "additionalProperties" in place.schema
    ]
    assert [] == [
        place
        for place in PLACES
        if place.schema["type"] == "array" and "x-kubernetes-list-type" not in place.schema
    ]
    unknown = [
        (place, name)
        for place in PLACES
        for name in place.schema.get("required", ())
        if name not in place.schema["properties"]
    ]
    assert [] == unknown


def test_unknown_fields_are_kept_only_where_necessary() -> None:
    """Only where another schema validates them: below a template, in filters deeper than two
    levels, in the arguments of a provisioner, and in what was given to Camel K.
    """
    for place in PLACES:
        if place.schema.get(FREE):
            names = [name for name in place.path if name not in ("[]", "*")]
            assert names[-1] in FREE_FIELDS, place.path
            nesting = sum(name in ("all", "any", "not") for name in names)
            assert (
                {"template", "channelTemplate", "channelTemplateSpec"} & set(names)
                or nesting == 2
                or names[-1] in ("arguments", "flow", "integration")
                or place.kind == "channel"
            ), place.path


def test_rules_have_messages_reasons_and_fields() -> None:
    """A message of one line, a reason that the API knows, and a field that exists."""
    reasons = {
        None,
        "FieldValueInvalid",
        "FieldValueForbidden",
        "FieldValueRequired",
        "FieldValueDuplicate",
    }
    for place in PLACES:
        for rule in place.schema.get(RULES, ()):
            assert rule["message"] and "\n" not in rule["message"] and rule.get("reason") in reasons
            schema: Any = place.schema
            for name in rule.get("fieldPath", "").split(".")[1:]:
                schema = schema["properties"][name]


def test_everything_that_rules_read_is_limited() -> None:
    """An API server rejects rules whose cost it cannot estimate, so lists around a rule, and texts
    and maps with rules, have limits.
    """
    limits = {"array": "maxItems", "string": "maxLength"}
    ruled = [place for place in PLACES if place.schema.get(RULES) and place.path]
    for place in ruled:
        assert "maxLength" in place.schema or place.schema["type"] != "string", place.path
        assert "maxProperties" in place.schema or "additionalProperties" not in place.schema, (
            place.path
        )
    below = {
        (place.kind, place.version, place.path[:length])
        for place in ruled
        for length in range(len(place.path))
    }
    for place in PLACES:
        if (
            (place.kind, place.version, place.path) in below
            and place.schema["type"] in limits
            and place.path[-2:] != ("containers", "[]")
        ):
            assert limits[place.schema["type"]] in place.schema, place.path


def test_shared_parts_are_the_same_everywhere() -> None:
    """Destinations, delivery, conditions and addresses do not differ between kinds."""
    for name, kind, path in (
        ("delivery", "trigger", ("spec", "delivery")),
        ("deadLetterSink", "trigger", ("spec", "delivery", "deadLetterSink")),
        ("subscriber", "trigger", ("spec", "subscriber")),
        ("sink", "pingsource", ("spec", "sink")),
        ("reply", "subscription", ("spec", "reply")),
        ("ceOverrides", "pingsource", ("spec", "ceOverrides")),
        ("conditions", "broker", ("status", "conditions")),
        ("addresses", "broker", ("status", "addresses")),
        ("filters", "trigger", ("spec", "filters")),
    ):
        first = next(place for place in PLACES if place.kind == kind and place.path == path)
        for place in PLACES:
            # The destinations of Knative 0.5 are others.
            if place.path[-1:] == (name,) and place.kind not in KINDS:
                # A channel's own list of subscribers repeats what Subscriptions said, and does not
                # validate it again.
                without = (RULES,) if "subscribers" in place.path else ()
                assert _todays(first.schema, *without) == _todays(place.schema), (
                    place.kind,
                    place.path,
                )
    destination = _todays(_spec("trigger", "v1")["subscriber"])
    assert (
        destination
        == _bare(_spec("pingsource", "v1")["sink"])
        == _bare(_spec("broker", "v1")["delivery"]["properties"]["deadLetterSink"])
    )
    step = _bare(_spec("sequence", "v1")["steps"]["items"])
    assert destination["properties"] == {
        name: each for name, each in step["properties"].items() if name != "delivery"
    }
    assert destination[RULES] == step[RULES]


def test_no_version_loses_fields_of_another() -> None:
    """Without a webhook a server converts by changing apiVersion, so the versions of a kind have
    the same fields.
    """
    for kind in ("kafkachannel", "kafkasource"):
        assert _schema(kind, "v1beta1") == _schema(kind, "v1")
    assert _schema("broker", "v1alpha1") == _schema("broker", "v1")
    assert _bare(_schema("trigger", "v1alpha1"), "default") == _bare(
        _schema("trigger", "v1"), "default"
    )
    first, *others = (
        _bare(_spec("eventtype", version))
        for version in ("v1beta1", "v1beta2", "v1beta3", "v1alpha1")
    )
    assert [first, first, first] == others


def _foreign(value: Any, schema: Schema, path: str) -> list[str]:
    """Paths of fields that the schema does not have, or has with another type; null is ignored."""
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if value is None:
        return []
    if not isinstance(value, types[schema["type"]]):
        return [f"{path} is no {schema['type']}"]
    found: list[str] = []
    for name, each in value.items() if isinstance(value, dict) else ():
        inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
        if inner is not None:
            found += _foreign(each, inner, f"{path}.{name}")
        elif (
            not schema.get(FREE)
            and (name != "metadata" or path)
            and not path.startswith(".metadata")
        ):
            found.append(f"{path}.{name}")
    for index, each in enumerate(value if isinstance(value, list) else ()):
        found += _foreign(each, schema["items"], f"{path}[{index}]")
    return found


def _kind_and_version(manifest: Mapping[str, Any]) -> tuple[str, str]:
    group, _, version = manifest["apiVersion"].partition("/")
    [name] = [
        name
        for name, crd in CRDS.items()
        if (crd["spec"]["group"], crd["spec"]["names"]["kind"]) == (group, manifest["kind"])
    ]
    return name, version


@pytest.mark.clause("F1", "O3")
@pytest.mark.parametrize(
    "manifest",
    [*VALID.values(), *(each["manifest"] for each in CHANGES.values())],
    ids=[*VALID, *CHANGES],
)
def test_valid_samples_fit_their_schemas(manifest: dict[str, Any]) -> None:
    """They have no field that the schema does not have."""
    assert [] == _foreign(manifest, _schema(*_kind_and_version(manifest)), "")


def test_every_version_has_a_minimal_and_a_full_sample() -> None:
    """The samples of a kind use all fields of its spec."""
    for kind, crd in CRDS.items():
        names = {
            f"{kind}-{version['name']}-{what}"
            for version in crd["spec"]["versions"]
            for what in ("minimal", "full")
        }
        assert names <= set(VALID)
        specs = [
            each["spec"]
            for each in VALID.values()
            if _kind_and_version(each)[0] == kind and "spec" in each
        ]
        assert set(_spec(kind, crd["spec"]["versions"][0]["name"])) == {
            name for spec in specs for name in spec
        }


def test_every_rule_has_a_sample_that_breaks_it() -> None:
    """Every rule is tested: an invalid sample of a kind with the rule expects its message."""
    expected = [
        (name.partition("-")[0], each["message"])
        for name, sample in INVALID.items()
        for each in sample["expected"]
    ]
    for message in {rule["message"] for place in PLACES for rule in place.schema.get(RULES, ())}:
        kinds = {
            place.kind
            for place in PLACES
            for rule in place.schema.get(RULES, ())
            if rule["message"] == message
        }
        assert any(
            kind in kinds and (message in text or text in message) for kind, text in expected
        ), message


def test_invalid_samples_have_a_rule_and_causes() -> None:
    """The rule in words and the expected causes; only an unknown field has no cause."""
    for name, sample in INVALID.items():
        assert (
            {"rule", "manifest", "expected"}
            <= sample.keys()
            <= {"rule", "before", "manifest", "expected"}
        )
        assert (
            sample["rule"].endswith(".")
            and sample["expected"]
            and name == sample["manifest"]["metadata"]["name"]
        )
        for cause in sample["expected"]:
            assert (
                cause.keys() == {"field", "reason", "message"}
                or "unknown field" in cause["message"]
            )


def _errors(
    manifest: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> list[FieldError]:
    """The errors of the controller's own validation of a Broker or Trigger."""

    def read(document: Mapping[str, Any]) -> Resource:
        content = {
            "spec": {},
            **document,
            "metadata": {"namespace": "default", **document["metadata"]},
        }
        version = document["apiVersion"].rpartition("/")[2]
        return (
            broker.default(Resource(replace(BROKER, version=version), content))
            if content["kind"] == "Broker"
            else trigger.default(Resource(replace(TRIGGER, version=version), content))
        )

    new, old = read(manifest), read(before or manifest)
    if new.kind.kind == BROKER.kind:
        return broker.validate(new) + broker.validate_update(new, old)
    return trigger.validate(new) + trigger.validate_update(new, old)


@pytest.mark.parametrize(
    "name", [name for name in (*VALID, *CHANGES) if name.startswith(("broker-", "trigger-"))]
)
def test_the_controller_accepts_what_the_crds_accept(name: str) -> None:
    """A valid Broker or Trigger is valid in both modes."""
    sample = CHANGES.get(name) or {"manifest": VALID[name]}
    assert [] == _errors(sample["manifest"], sample.get("before"))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, each in INVALID.items()
        if name.startswith(("broker-", "trigger-")) and "field" in each["expected"][0]
    ],
)
def test_the_controller_rejects_what_the_crds_reject(name: str) -> None:
    """An invalid Broker or Trigger is invalid in both modes."""
    assert [] != _errors(INVALID[name]["manifest"], INVALID[name].get("before"))
