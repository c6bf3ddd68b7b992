"""Which artifact has which component, language or data format of Camel: from Camel's own catalog,
an artifact of 2.5 MB.
"""

import difflib
import json
import zipfile
from enum import StrEnum
from pathlib import Path
from typing import Final

from headrace.adapters.maven import Artifact

_ROOT: Final = "org/apache/camel/catalog"
_SUGGESTIONS: Final = 3


class Part(StrEnum):
    """What the catalog lists."""

    COMPONENT = "component"
    LANGUAGE = "language"
    DATA_FORMAT = "dataformat"


class Catalog:
    """One version's catalog. Reads from its jar what is asked for."""

    def __init__(self, jar: Path) -> None:
        self._jar = zipfile.ZipFile(jar)
        self._names = {
            part: frozenset(
                self._jar.read(f"{_ROOT}/{part.value}s.properties").decode("utf-8").split()
            )
            for part in Part
        }

    def has(self, part: Part, name: str) -> bool:
        """Whether Camel has it."""
        return name in self._names[part]

    def artifact(self, part: Part, name: str) -> Artifact | None:
        """Return the artifact that it is in; None if Camel does not have it."""
        if not self.has(part, name):
            return None
        found = json.loads(self._jar.read(f"{_ROOT}/{part.value}s/{name}.json"))[part.value]
        return Artifact(found["groupId"], found["artifactId"], found["version"])

    def similar_components(self, name: str) -> list[str]:
        """Return names of components that are like this one."""
        return difflib.get_close_matches(name, self._names[Part.COMPONENT], _SUGGESTIONS)

    def close(self) -> None:
        """Close the file."""
        self._jar.close()
