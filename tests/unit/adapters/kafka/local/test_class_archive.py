"""Where the classes of Kafka are kept, and when a JVM reads or writes them."""

from pathlib import Path

import pytest

from headrace.adapters.kafka.local.class_archive import ClassArchive


def _written(archive: ClassArchive) -> Path:
    [option] = archive.reading_or_writing()
    name, _, path = option.partition("=")
    assert name == "-XX:ArchiveClassesAtExit"
    return Path(path)


def test_the_first_clean_end_makes_the_file(tmp_path: Path) -> None:
    """Until then a JVM writes to a file of its own, and none is read."""
    first, second = ClassArchive(tmp_path / "4.3.0"), ClassArchive(tmp_path / "4.3.0")
    assert first.reading() == []
    assert _written(first) != _written(second)
    _written(first).write_bytes(b"classes")
    first.keep()
    assert second.reading_or_writing() == second.reading()
    assert second.reading() == [f"-XX:SharedArchiveFile={first.path}", "-Xshare:auto"]
    assert first.path.read_bytes() == b"classes"


def test_what_a_killed_jvm_has_written_is_removed(tmp_path: Path) -> None:
    """It may be half of a file. Nothing to remove is fine too, and so is nothing to keep."""
    archive = ClassArchive(tmp_path / "4.3.0")
    archive.discard()
    archive.keep()
    _written(archive).write_bytes(b"cla")
    archive.discard()
    assert list(tmp_path.iterdir()) == []


def test_another_java_has_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JVM cannot read the file of another version."""
    before = ClassArchive(tmp_path / "4.3.0").path
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(java.parent))
    assert ClassArchive(tmp_path / "4.3.0").path != before
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ClassArchive(tmp_path / "4.3.0").path.parent == tmp_path
