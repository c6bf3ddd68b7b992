"""The definitions that come with the controller, read from its package, or in a checkout from the
chart that ships them to clusters.

One set of files serves both: what a cluster is given as CRDs is what the controller's own API
serves. The core kinds, which a cluster has by itself, are described in the same form beside this
module.
"""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from headrace.domain.errors import Permanent
from headrace_apiserver.kinds.catalog import Catalog

_PACKAGE = "headrace_apiserver"
_CHECKOUT = Path(__file__).parents[4] / "charts" / "headrace" / "crds"
# The C parser reads the half megabyte of definitions in 0.1 s, the Python one in several seconds.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_catalog() -> Catalog:
    """The catalog of a new controller. Raises Permanent when the installation lacks its files."""
    return Catalog(custom_definitions(), core=core_definitions())


def custom_definitions() -> list[Mapping[str, Any]]:
    """The CRDs of the chart. Raises Permanent when there are none."""
    packaged = files(_PACKAGE).joinpath("crds")
    found = list(_definitions(packaged if packaged.is_dir() else _CHECKOUT))
    if not found:
        raise Permanent(
            f"the installation has no CRD files: neither in the package {_PACKAGE} nor in"
            f" {_CHECKOUT}; install it again"
        )
    return found


def core_definitions() -> list[Mapping[str, Any]]:
    """The core kinds."""
    return list(_definitions(files(_PACKAGE).joinpath("kinds", "core")))


def _definitions(folder: Traversable) -> Iterator[Mapping[str, Any]]:
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        if file.name.endswith(".yaml"):
            yield from yaml.load_all(file.read_text(encoding="utf-8"), _LOADER)
