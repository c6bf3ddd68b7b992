"""Manifest files: one or more resources in YAML or JSON, read so that a hostile or careless file is refused and named, with its line.

YAML is read through a SafeLoader that refuses what no manifest needs: anchors and aliases (a few lines of them unfold into gigabytes),
duplicate keys (the last would win in silence), deep nesting, and more than a bounded number of nodes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headrace.codec.objects import BYTES_MAX, DEPTH_MAX, VALUES_MAX, InvalidObject, check_size

FILES_MAX = 1_000
_SUFFIXES = (".yaml", ".yml", ".json")
_NAMED_MAX = 5


class InvalidManifest(ValueError):
    """A file that cannot be read as manifests; the message begins with `file:line:` where that is known."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document and where it stands."""

    source: str
    line: int
    document: dict[str, Any]

    @property
    def place(self) -> str:
        """`file:line`, for messages."""
        return f"{self.source}:{self.line}"


def read_manifests(text: bytes, source: str) -> list[Manifest]:
    """Read all documents of one text; empty ones are skipped and `List` kinds unfolded. Raises InvalidManifest."""
    if len(text) > BYTES_MAX:
        raise InvalidManifest(f"{source}: {len(text)} bytes; a manifest file may have {BYTES_MAX}. Split it into several files")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidManifest(f"{source}: not UTF-8 at byte {error.start}") from error
    return [each for line, document in _documents(decoded, source) for each in _unfolded(document, source, line)]


def read_paths(paths: Sequence[Path]) -> list[Manifest]:
    """Read files, and the YAML and JSON files directly in directories, in the order of their names. Raises InvalidManifest."""
    found: list[Manifest] = []
    files = [file for path in paths for file in _files(path)]
    if len(files) > FILES_MAX:
        raise InvalidManifest(f"{len(files)} files; at most {FILES_MAX} are read at once")
    for file in files:
        try:
            # Read no more than could be accepted: a path may name a device or a huge file.
            with file.open("rb") as stream:
                found += read_manifests(stream.read(BYTES_MAX + 1), str(file))
        except OSError as error:
            raise InvalidManifest(f"{file}: {error.strerror or error}") from error
    return found


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(_files_in(path))
        if not files:
            below = sorted(str(each) for each in path.iterdir() if each.is_dir() and any(_files_in(each)))
            hint = f"; there are some in {', '.join(below[:_NAMED_MAX])}: name the directory you mean" if below else ""
            raise InvalidManifest(f"{path}: no {', '.join(_SUFFIXES)} files in this directory{hint}")
        return files
    return [path]


def _files_in(directory: Path) -> Iterator[Path]:
    return (each for each in directory.iterdir() if each.suffix in _SUFFIXES and each.is_file())


def _documents(text: str, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    loader = _Loader(text)
    try:
        while loader.check_data():  # type: ignore[no-untyped-call]
            line = loader.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            document = loader.get_data()
            if document is None:
                continue
            if not isinstance(document, dict):
                raise InvalidManifest(f"{source}:{line}: a manifest is a mapping with apiVersion, kind and metadata")
            check_size(document)
            yield line, document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        raise InvalidManifest(f"{where}: {error.problem or error.context}") from error
    except (yaml.YAMLError, InvalidObject, ValueError, RecursionError) as error:
        if isinstance(error, InvalidManifest):
            raise
        raise InvalidManifest(f"{source}: {str(error).splitlines()[0] if str(error) else 'nested too deeply'}") from error
    finally:
        loader.dispose()


def _unfolded(document: dict[str, Any], source: str, line: int) -> Iterator[Manifest]:
    if document.get("kind") == "List" and document.get("apiVersion") == "v1":
        for item in document.get("items") or ():
            if not isinstance(item, dict):
                raise InvalidManifest(f"{source}:{line}: every item of a List is a manifest")
            yield Manifest(source, line, item)
    else:
        yield Manifest(source, line, document)


class _Loader(yaml.SafeLoader):
    """SafeLoader less anchors, aliases, merge keys, duplicate keys, non-text keys and dates, with bounds."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not taken", problem_mark=event.start_mark)
        self._depth += 1
        self._nodes += 1
        if self._depth > DEPTH_MAX:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {DEPTH_MAX} levels", problem_mark=event.start_mark)
        if self._nodes > VALUES_MAX:
            raise yaml.MarkedYAMLError(problem=f"more than {VALUES_MAX} nodes", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f'duplicate key "{key.value[:100]}"', problem_mark=key.start_mark)
            seen.add(key.value)
            # `1:` or `yes:` as a key means the text to everybody who writes a manifest.
            key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep=deep)


# A timestamp would become a date object, which is no JSON value; it stays the text it was.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
