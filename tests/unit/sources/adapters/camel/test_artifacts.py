"""Which artifacts routes need, by a small catalog."""

import contextlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.adapters.maven import Artifact
from headrace_sources.adapters.camel.artifacts import ALWAYS, CAMEL_VERSION, artifacts_of, fetch
from headrace_sources.adapters.camel.catalog import Catalog
from headrace_sources.adapters.camel.routes import Routes
from headrace_sources.source import SourceFault

ENTRIES = {
    "component": {"timer": "camel-timer", "sftp": "camel-ftp", "kafka": "camel-kafka"},
    "language": {"jq": "camel-jq", "simple": "camel-core-languages"},
    "dataformat": {"csv": "camel-csv"},
}


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A jar with the form of Camel's."""
    root, jar = "org/apache/camel/catalog", tmp_path / "catalog.jar"
    with zipfile.ZipFile(jar, "w") as file:
        for part, names in ENTRIES.items():
            file.writestr(f"{root}/{part}s.properties", "\n".join(names))
            for name, artifact in names.items():
                coordinates = {"groupId": "org.apache.camel", "artifactId": artifact}
                entry = {part: {**coordinates, "version": CAMEL_VERSION}}
                file.writestr(f"{root}/{part}s/{name}.json", json.dumps(entry))
    with contextlib.closing(Catalog(jar)) as found:
        yield found


def needed(
    catalog: Catalog, *dependencies: str, schemes: str = "", names: str = "", files: str = ""
) -> set[str]:
    """The names of the artifacts beside those that Camel always has."""
    routes = Routes(
        {}, frozenset(schemes.split()), frozenset(names.split()), frozenset(files.split())
    )
    found = artifacts_of(routes, dependencies, catalog)
    assert set(ALWAYS) <= set(found)
    return {":".join(each) for each in set(found) - set(ALWAYS)}


def test_components_languages_and_data_formats_have_artifacts(catalog: Catalog) -> None:
    """Except what comes with Camel's core."""
    found = needed(catalog, schemes="timer sftp", names="jq simple csv steps", files="xml")
    names = ("camel-ftp", "camel-jq", "camel-csv", "camel-xml-io-dsl")
    assert found == {f"org.apache.camel:{each}:{CAMEL_VERSION}" for each in names}


def test_dependencies_are_added(catalog: Catalog) -> None:
    """With them, an unknown component may be one of theirs."""
    found = needed(catalog, "camel:jq", "mvn:a.b:c:1.0", "d.e:f:2", schemes="own")
    assert found == {f"org.apache.camel:camel-jq:{CAMEL_VERSION}", "a.b:c:1.0", "d.e:f:2"}


def test_an_unknown_component_is_named(catalog: Catalog) -> None:
    """With similar ones, if there are any."""
    with pytest.raises(SourceFault, match="has no component kafak: did you mean kafka"):
        needed(catalog, schemes="kafak")
    with pytest.raises(SourceFault, match="has no component zzz: correct the URI"):
        needed(catalog, schemes="zzz")


def test_other_languages_are_refused(catalog: Catalog) -> None:
    """Only Camel K compiled them."""
    with pytest.raises(SourceFault, match="routes in groovy cannot be run"):
        needed(catalog, files="groovy")


async def test_a_cache_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the variable that chooses another one."""
    (tmp_path / "file").write_text("")
    (tmp_path / "mvn").write_text("#!/bin/sh\n")
    (tmp_path / "mvn").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SourceFault, match="Not a directory; set XDG_CACHE_HOME"):
        await fetch([Artifact("a", "b", "1")], lambda text: None)
