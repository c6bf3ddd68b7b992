"""The core kinds, which every Kubernetes cluster has, described in the form of CRDs.

They are YAML files beside this module. `read_definitions` also reads the CRD files of the process
that runs the API server.
"""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import yaml

# The C parser reads half a megabyte of definitions in 0.1 s, the Python one in several seconds.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def core_definitions() -> list[Mapping[str, Any]]:
    """The definitions of the core kinds."""
    return list(read_definitions(files("headrace_apiserver").joinpath("kinds", "core")))


def read_definitions(folder: Traversable) -> Iterator[Mapping[str, Any]]:
    """The documents of all YAML files in a folder, in the order of their names; none if there is no
    such folder.
    """
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        if file.name.endswith(".yaml"):
            yield from yaml.load_all(file.read_text(encoding="utf-8"), _LOADER)
