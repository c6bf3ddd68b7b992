"""Reads manifest files, which contain one or more resources in YAML or JSON. A malicious or faulty
file is refused with an error that names the file and the line.

`yaml_text` reads the YAML. It refuses what no manifest needs: anchors and aliases (a few lines can
expand to gigabytes), duplicate keys (all but the last would be ignored silently), tags, deep
nesting, and documents with too many nodes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.adapters.yaml_text import InvalidYaml, read_yaml
from headrace.codec.objects import BYTES_MAX, DEPTH_MAX, VALUES_MAX, InvalidObject, check_size

FILES_MAX = 1_000
_SUFFIXES = (".yaml", ".yml", ".json")
_NAMED_MAX = 20


class InvalidManifest(ValueError):
    """A file cannot be read as manifests. The message begins with `file:line:` if the line is
    known.
    """


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document and its position."""

    source: str
    line: int
    document: dict[str, Any]

    @property
    def place(self) -> str:
        """`file:line`, for messages."""
        return f"{self.source}:{self.line}"

    @property
    def api_version(self) -> str:
        """`apiVersion` as text; the server decides whether it is valid."""
        return str(self.document.get("apiVersion"))

    @property
    def kind(self) -> str:
        """`kind` as text; the server decides whether it is valid."""
        return str(self.document.get("kind"))

    @property
    def name(self) -> str:
        """`metadata.name`, empty if it is missing or no text."""
        return self._metadata("name")

    @property
    def namespace(self) -> str:
        """`metadata.namespace`, empty if it is missing or no text."""
        return self._metadata("namespace")

    def _metadata(self, field: str) -> str:
        metadata = self.document.get("metadata")
        value = metadata.get(field) if isinstance(metadata, dict) else None
        return value if isinstance(value, str) else ""


def read_manifests(text: bytes, source: str) -> list[Manifest]:
    """Read all documents of one text. Empty documents are skipped, and a `List` is replaced by its
    items. Raises InvalidManifest.
    """
    if len(text) > BYTES_MAX:
        raise InvalidManifest(
            f"{source}: {len(text)} bytes; a manifest file may have {BYTES_MAX}. Split it into"
            " several files"
        )
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidManifest(f"{source}: not UTF-8 at byte {error.start}") from error
    return [
        each
        for line, document in _documents(decoded, source)
        for each in _unfolded(document, source, line)
    ]


def read_paths(paths: Sequence[Path]) -> list[Manifest]:
    """Read files, and the YAML and JSON files directly in directories, in the order of their names.
    Raises InvalidManifest.
    """
    found: list[Manifest] = []
    files = [file for path in paths for file in _files(path)]
    if len(files) > FILES_MAX:
        raise InvalidManifest(f"{len(files)} files; at most {FILES_MAX} are read at once")
    for file in files:
        try:
            # Read no more than could be accepted: the path may be a device or a huge file.
            with file.open("rb") as stream:
                found += read_manifests(stream.read(BYTES_MAX + 1), str(file))
        except OSError as error:
            raise InvalidManifest(f"{file}: {error.strerror or error}") from error
    return found


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(_files_in(path))
        if not files:
            below = sorted(
                str(each) for each in path.iterdir() if each.is_dir() and any(_files_in(each))
            )
            hint = (
                f"; there are some in {', '.join(below[:_NAMED_MAX])}: name the directory you mean"
                if below
                else ""
            )
            raise InvalidManifest(
                f"{path}: no {', '.join(_SUFFIXES)} files in this directory{hint}"
            )
        return files
    return [path]


def _files_in(directory: Path) -> Iterator[Path]:
    return (each for each in directory.iterdir() if each.suffix in _SUFFIXES and each.is_file())


def _documents(text: str, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        for line, document in read_yaml(text, depth_max=DEPTH_MAX, nodes_max=VALUES_MAX):
            if not isinstance(document, dict):
                raise InvalidManifest(
                    f"{source}:{line}: a manifest is a mapping with apiVersion, kind and metadata"
                )
            check_size(document)
            yield line, document
    except InvalidYaml as error:
        where = f"{source}:{error.line}" if error.line else source
        raise InvalidManifest(f"{where}: {error}") from error
    except InvalidObject as error:
        raise InvalidManifest(f"{source}: {error}") from error


def _unfolded(document: dict[str, Any], source: str, line: int) -> Iterator[Manifest]:
    if document.get("kind") == "List" and document.get("apiVersion") == "v1":
        items = document.get("items") or ()
        if not isinstance(items, list | tuple):
            raise InvalidManifest(f"{source}:{line}: the items of a List are a list")
        for item in items:
            if not isinstance(item, dict):
                raise InvalidManifest(f"{source}:{line}: every item of a List is a manifest")
            yield Manifest(source, line, item)
    else:
        yield Manifest(source, line, document)
