"""The command line and output of Maven."""

from pathlib import Path

import pytest

from headrace.adapters import maven
from headrace.adapters.maven import Artifact


def test_a_project_depends_on_the_artifacts() -> None:
    """Names are escaped: they come from users."""
    text = maven.project([Artifact("org.example", "a</artifactId>", "1")])
    assert "<groupId>org.example</groupId><artifactId>a&lt;/artifactId&gt;</artifactId>" in text


def test_failures_name_the_first_error() -> None:
    """The lines after it are advice about Maven."""
    assert maven.failure("[INFO] x\n[ERROR] no artifact\n[ERROR] re-run") == "[ERROR] no artifact"
    assert maven.failure("killed\n") == "killed"
    assert maven.failure("") == "no output"


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With what to install; a Java that does not answer has an unknown version."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "openjdk-17-jre-headless" in (maven.missing_java("Apache Camel") or "")
    assert "to fetch Apache Camel with (on Debian: maven)" in (
        maven.missing_maven("Apache Camel") or ""
    )
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    assert maven.missing_java("Apache Camel") == (
        "`java` on PATH is version 11, Apache Camel needs 17 or newer"
    )


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """As other programs do it."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/x")
    assert maven.cache_directory("kafka", "1") == Path("/var/cache/x/headrace/kafka/1")
