"""`headrace apply`, `get`, `describe` and `delete`: resources through the controller's API.

Exit codes: 0 done; 1 something was refused, is missing or did not become Ready in time; 2 the command line or a file cannot be used.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from headrace.adapters.manifests import InvalidManifest, Manifest, read_manifests, read_paths
from headrace.codec.objects import BYTES_MAX
from headrace.domain.kinds import KINDS
from headrace.domain.resources import Resource, ResourceKind
from headrace_cli.apply import NotReady, apply_manifest, wait_ready
from headrace_cli.client import SERVER, SERVER_VARIABLE, ApiClient, ApiFailure
from headrace_cli.show import Output, console_for_output, describe_resource, print_resources

REFUSED, UNUSABLE = 1, 2

Server = Annotated[str, typer.Option("--server", envvar=SERVER_VARIABLE, help="URL of the controller's API.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace.")]
Files = Annotated[list[str], typer.Option("--filename", "-f", help="A YAML or JSON file, a directory of them, or - for standard input.")]
Kind = Annotated[str, typer.Argument(metavar="KIND", help="broker, trigger, configmap; plural and short names too.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("apply")(apply)
    app.command("get")(get)
    app.command("describe")(describe)
    app.command("delete")(delete)


def apply(
    filename: Files,
    *,
    namespace: Namespace = "default",
    server: Server = SERVER,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until everything applied is Ready.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait.")] = 60.0,
) -> None:
    """Create resources, or change them to what the files say."""
    client = _client(server)
    wanted = [_resource(each, namespace) for each in _manifests(filename)]
    applied: list[Resource] = []
    refused = 0
    for manifest, resource in wanted:
        try:
            stored, done = apply_manifest(client, resource)
        except ApiFailure as failure:
            refused += 1
            _error(f"{manifest.place}: {_named(resource)}: {failure}")
            if failure.code == 0:
                raise typer.Exit(REFUSED) from failure
            continue
        applied.append(stored)
        typer.echo(f"{_named(stored)} {done}")
    if wait and not refused:
        try:
            wait_ready(client, applied, timeout, lambda each: typer.echo(f"{_named(each)} is Ready"))
        except (NotReady, ApiFailure) as failure:
            _fail(str(failure), REFUSED)
    if refused:
        raise typer.Exit(REFUSED)


def get(
    kind: Kind,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One of them; all when left out.")] = None,
    *,
    namespace: Namespace = "default",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to show them.")] = Output.TABLE,
    server: Server = SERVER,
) -> None:
    """Show resources."""
    found_kind = _kind(kind)
    if name is not None and all_namespaces:
        _fail("a name belongs to one namespace; leave out -A or the name", UNUSABLE)
    client = _client(server)
    try:
        found = (
            [_existing(client, found_kind, namespace, name)]
            if name
            else list(client.list(found_kind, None if all_namespaces else namespace))
        )
    except ApiFailure as failure:
        _fail(str(failure), REFUSED)
    if not found and output in (Output.TABLE, Output.WIDE):
        where = "in any namespace" if all_namespaces else f"in namespace {namespace}"
        _error(f"no {found_kind.plural} {where}")
        return
    print_resources(found, found_kind, output, with_namespace=all_namespaces, one=name is not None)


def describe(
    kind: Kind, name: Annotated[str, typer.Argument(metavar="NAME")], *, namespace: Namespace = "default", server: Server = SERVER
) -> None:
    """Show one resource in full: what was asked for, and how it does."""
    found_kind = _kind(kind)
    try:
        resource = _existing(_client(server), found_kind, namespace, name)
    except ApiFailure as failure:
        _fail(str(failure), REFUSED)
    describe_resource(resource, console_for_output())


def delete(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]")] = None,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    *,
    filename: Annotated[list[str] | None, typer.Option("--filename", "-f", help="Delete what these files name.")] = None,
    namespace: Namespace = "default",
    server: Server = SERVER,
    ignore_not_found: Annotated[bool, typer.Option("--ignore-not-found", help="What is not there counts as deleted.")] = False,
) -> None:
    """Delete resources. Topics of a Broker and undelivered events in them go too; dead letters stay for their grace period."""
    if (kind is None or name is None) == (filename is None):
        _fail("give KIND and NAME, or -f FILE", UNUSABLE)
    if filename is not None:
        # Last made, first deleted: Triggers before the Broker they read from.
        wanted = [(each.kind, each.namespace, each.name) for _, each in reversed([_resource(m, namespace) for m in _manifests(filename)])]
    else:
        wanted = [(_kind(kind or ""), namespace, name or "")]
    client, absent = _client(server), 0
    for each_kind, each_namespace, each_name in wanted:
        try:
            deleted = client.delete(each_kind, each_namespace, each_name)
        except ApiFailure as failure:
            _fail(str(failure), REFUSED)
        absent += not deleted
        label = f'{each_kind.singular} "{each_name}"'
        if deleted:
            typer.echo(f"{label} deleted")
        elif not ignore_not_found:
            _error(f"{label} not found in namespace {each_namespace}")
    if absent and not ignore_not_found:
        raise typer.Exit(REFUSED)


def _client(server: str) -> ApiClient:
    try:
        return ApiClient(server, KINDS)
    except ApiFailure as failure:
        _fail(str(failure), UNUSABLE)


def _existing(client: ApiClient, kind: ResourceKind, namespace: str, name: str) -> Resource:
    found = client.get(kind, namespace, name)
    if found is None:
        told = f'{kind.qualified} "{name}" not found in namespace {namespace}'
        raise ApiFailure(f"{told}; `headrace get {kind.plural} -A` shows all there are", code=404)
    return found


def _kind(word: str) -> ResourceKind:
    kind = KINDS.of_word(word)
    if kind is None:
        known = ", ".join(each.plural for each in KINDS if each.served)
        _fail(f"there is no kind {word!r}; known: {known}", UNUSABLE)
    return kind


def _manifests(filenames: Sequence[str]) -> list[Manifest]:
    found: list[Manifest] = []
    try:
        for each in filenames:
            if each == "-":
                found += read_manifests(sys.stdin.buffer.read(BYTES_MAX + 1), "standard input")
            else:
                found += read_paths([Path(each)])
    except InvalidManifest as error:
        _fail(str(error), UNUSABLE)
    if not found:
        _fail(f"no manifests in {', '.join(filenames)}", UNUSABLE)
    return found


def _resource(manifest: Manifest, namespace: str) -> tuple[Manifest, Resource]:
    document = manifest.document
    kind = KINDS.of_type(str(document.get("apiVersion")), str(document.get("kind")))
    metadata = document.get("metadata")
    if kind is None or not kind.served:
        known = ", ".join(f"{each.api_version} {each.kind}" for each in KINDS if each.served)
        _fail(f"{manifest.place}: no such kind: {document.get('apiVersion')} {document.get('kind')}; known: {known}", UNUSABLE)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        _fail(f"{manifest.place}: metadata.name is missing", UNUSABLE)
    return manifest, Resource(kind, {**document, "metadata": {"namespace": namespace, **metadata}})


def _named(resource: Resource) -> str:
    return f"{resource.kind.qualified}/{resource.name}"


def _error(message: str) -> None:
    typer.echo(f"headrace: {message}", err=True)


def _fail(message: str, code: int) -> NoReturn:
    _error(message)
    raise typer.Exit(code)
