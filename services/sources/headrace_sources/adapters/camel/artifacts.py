"""Fetches Camel and the artifacts of a route with Maven, once per set of artifacts."""

import asyncio
import fcntl
import hashlib
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from headrace.adapters import maven
from headrace.adapters.maven import Artifact
from headrace.runtime.guarded_program import GuardedProgram
from headrace_sources.adapters.camel.catalog import Catalog, Part
from headrace_sources.adapters.camel.routes import Routes
from headrace_sources.source import SourceFault

CAMEL_VERSION: Final = "4.18.0"
"""A release with long-term support; it needs Java 17."""
GROUP: Final = "org.apache.camel"
FETCH_SECONDS: Final = 600.0
_LOCK_SECONDS: Final = 0.2
_STOP_SECONDS: Final = 2.0
NOT_FETCHED: Final = "DownloadFailed"
Progress = Callable[[str], None]

logger = structlog.get_logger(__name__)


def _camel(name: str) -> Artifact:
    return Artifact(GROUP, name, CAMEL_VERSION)


CATALOG: Final = _camel("camel-catalog")
ALWAYS: Final = (
    _camel("camel-core"),
    _camel("camel-main"),
    _camel("camel-yaml-dsl"),
    _camel("camel-http"),
    _camel("camel-jackson"),
    Artifact("org.slf4j", "slf4j-simple", "2.0.17"),
)
_IN_CORE: Final = frozenset(
    "base-engine bean browse controlbus core-languages dataformat dataset direct file language log"  # noqa: SIM905
    " mock ref rest saga scheduler seda stub timer validator xpath xslt".split()
)
"""Artifacts that come with `camel-core`."""
FILE_LANGUAGES: Final = {"xml": _camel("camel-xml-io-dsl")}
_COORDINATES: Final = re.compile(r"(?:mvn:)?([\w.-]+):([\w.-]+):([\w.-]+)")
_CAMEL_NAME: Final = re.compile(r"camel[:-]([a-z0-9-]+)")
_NOT_FOUND: Final = (
    re.compile(r"(?:Could not find|Could not transfer) artifact (\S+)"),
    re.compile(r"(\S+) was not found in "),
)


def missing_programs() -> str | None:
    """Return what this machine lacks to run Camel; None when nothing is missing."""
    return maven.missing_java("Apache Camel")


def dependency(text: str) -> Artifact:
    """Return the artifact of an entry of `spec.dependencies`. Raises `SourceFault`."""
    if found := _CAMEL_NAME.fullmatch(text):
        return _camel(f"camel-{found[1]}")
    if found := _COORDINATES.fullmatch(text):
        return Artifact(*found.groups())
    raise SourceFault(
        "InvalidDependency",
        f"spec.dependencies: {text[:100]} is neither camel:NAME nor mvn:GROUP:NAME:VERSION",
    )


def artifacts_of(routes: Routes, dependencies: Iterable[str], catalog: Catalog) -> list[Artifact]:
    """Return all artifacts that the routes need. Raises `SourceFault` that names a component that
    Camel does not have.
    """
    found = {*ALWAYS, *map(dependency, dependencies)}
    own_components = len(found) > len(ALWAYS)
    for scheme in sorted(routes.schemes):
        artifact = catalog.artifact(Part.COMPONENT, scheme)
        if artifact is not None:
            found.add(artifact)
        elif not own_components:
            raise _unknown_component(scheme, catalog)
    for name in routes.names:
        for part in (Part.LANGUAGE, Part.DATA_FORMAT):
            if artifact := catalog.artifact(part, name):
                found.add(artifact)
    for language in routes.other_languages:
        if language not in FILE_LANGUAGES:
            raise SourceFault(
                "InvalidRoute",
                f"routes in {language[:20]} cannot be run; write them in YAML or XML",
            )
        found.add(FILE_LANGUAGES[language])
    return sorted(each for each in found if each.name.removeprefix("camel-") not in _IN_CORE)


async def fetch_catalog(progress: Progress) -> Catalog:
    """Return Camel's catalog. Raises `SourceFault`."""
    directory = await fetch([CATALOG], progress)
    return await asyncio.to_thread(Catalog, next(directory.glob("camel-catalog-*.jar")))


async def fetch(artifacts: Collection[Artifact], progress: Progress) -> Path:
    """Return the directory of the jars of these artifacts, and of all that they need.

    Several processes may call it at the same time: one after the other fetches. Raises
    `SourceFault`.
    """
    digest = hashlib.sha256("\n".join(map(":".join, sorted(artifacts))).encode()).hexdigest()
    try:
        directory = maven.cache_directory("camel", CAMEL_VERSION, digest[:24])
    except RuntimeError:
        raise SourceFault(
            NOT_FETCHED,
            "the sources service has no home directory to fetch Camel to; set XDG_CACHE_HOME",
        ) from None
    if directory.is_dir():
        return directory
    missing = maven.missing_maven(f"Apache Camel {CAMEL_VERSION}")
    if missing is not None:
        raise SourceFault("MavenMissing", f"the sources service cannot run Camel: {missing}")
    progress(f"fetching {len(artifacts)} artifacts of Apache Camel {CAMEL_VERSION} with Maven")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        async with asyncio.timeout(FETCH_SECONDS), _locked(directory.parent / "lock"):
            if not directory.is_dir():
                await _copy_dependencies(artifacts, directory)
    except TimeoutError:
        raise SourceFault(
            NOT_FETCHED,
            f"Maven did not fetch the artifacts of Camel within {FETCH_SECONDS:.0f} s; it continues"
            " with the next try",
        ) from None
    except OSError as error:
        raise SourceFault(
            NOT_FETCHED,
            f"the cache directory {directory.parent} cannot be written: {error.strerror}; set"
            " XDG_CACHE_HOME to one that can",
        ) from None
    return directory


async def _copy_dependencies(artifacts: Collection[Artifact], directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="fetch-") as work:
        pom = Path(work) / "pom.xml"
        pom.write_text(maven.project(artifacts), encoding="utf-8")
        jars = Path(work) / "jars"
        program = await GuardedProgram.start(
            maven.copy_command(pom, jars), stop_seconds=_STOP_SECONDS
        )
        code = await program.run(lambda line: logger.debug("maven", line=line))
        output = "\n".join(program.last_lines)
        if code != 0 or not jars.is_dir():
            raise _fetch_failed(output)
        # Renamed when complete: an interrupted fetch must not look like an installation.
        jars.rename(directory)


def _fetch_failed(output: str) -> SourceFault:
    names = sorted({name for pattern in _NOT_FOUND for name in pattern.findall(output)})
    if names:
        return SourceFault(
            "ArtifactNotFound",
            f"Maven cannot get {', '.join(names[:3])}; check spec.dependencies, and whether the"
            " repository is reachable and has it",
        )
    return SourceFault(NOT_FETCHED, f"Maven could not fetch Camel: {maven.failure(output)}")


def _unknown_component(scheme: str, catalog: Catalog) -> SourceFault:
    similar = catalog.similar_components(scheme)
    hint = f"did you mean {' or '.join(similar)}" if similar else "correct the URI"
    return SourceFault(
        "UnknownComponent",
        f"Apache Camel {CAMEL_VERSION} has no component {scheme[:100]}: {hint}; or name the"
        " artifact that has it in spec.dependencies",
    )


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold a lock between processes, which a process that dies releases."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(_LOCK_SECONDS)
            else:
                break
        yield
