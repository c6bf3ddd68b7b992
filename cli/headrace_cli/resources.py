"""`headrace apply`, `get` and `delete`: manage resources through the controller's API, for users
without kubectl. The server does the work.

Exit codes: 0 success; 1 something was rejected, is missing or did not become Ready in time; 2
invalid command line or file.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from headrace.adapters.manifests import InvalidManifest, Manifest, read_manifests, read_paths
from headrace.codec.objects import BYTES_MAX
from headrace_cli.apply import AppliedObject, NotReady, apply_manifest, wait_ready
from headrace_cli.client import (
    AUTHORITY_VARIABLE,
    SERVER,
    SERVER_VARIABLE,
    TOKEN_VARIABLE,
    ApiClient,
    ApiFailure,
    Document,
)
from headrace_cli.client import Kind as ServedKind
from headrace_cli.deletion import DeletedObject, NotDeleted, delete_object, wait_deleted
from headrace_cli.resource_output import OutputFormat, print_document, print_table
from headrace_cli.terminal import echo

REFUSED, UNUSABLE = 1, 2
_DEFAULT_NAMESPACE = "default"
NOT_FOUND = 404

Server = Annotated[
    str, typer.Option("--server", envvar=SERVER_VARIABLE, help="URL of the controller's API.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        envvar=TOKEN_VARIABLE,
        help="File with the API token, if the API requires one; the first line is used.",
    ),
]
Authority = Annotated[
    Path | None,
    typer.Option(
        "--certificate-authority",
        envvar=AUTHORITY_VARIABLE,
        help="CA certificate (PEM) to verify the API's certificate.",
    ),
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace.")]
ManifestNamespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        show_default="default",
        help="Namespace of what names none itself.",
    ),
]
Files = Annotated[
    list[str],
    typer.Option(
        "--filename",
        "-f",
        help="A YAML or JSON file, a directory of them, or - for standard input.",
    ),
]
Kind = Annotated[
    str,
    typer.Argument(
        metavar="KIND",
        help="broker, trigger, configmap …; also plural and short names, and for `get` a category:"
        " sources, knative.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("apply")(apply)
    app.command("get")(get)
    app.command("delete")(delete)


def apply(
    filename: Files,
    *,
    namespace: ManifestNamespace = None,
    server: Server = SERVER,
    token_file: TokenFile = None,
    certificate_authority: Authority = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until all applied resources are Ready.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait.")] = 60.0,
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="Take over fields that others have set.")
    ] = False,
) -> None:
    """Create resources, or update them to match the files (server-side apply)."""
    client = connect(server, token_file, certificate_authority)
    applied: list[AppliedObject] = []
    refused = 0
    for manifest in _manifests(filename, namespace):
        try:
            each = apply_manifest(
                client, manifest, namespace or _DEFAULT_NAMESPACE, force=force_conflicts
            )
        except ApiFailure as failure:
            refused += 1
            # Two writers set the same field. An option of this command resolves the conflict; the
            # server's message does not mention it.
            hint = (
                "; --force-conflicts takes these fields over"
                if failure.code == 409 and "Apply failed" in str(failure)
                else ""
            )
            _error(f"{manifest.place}: {_label(manifest)}: {failure}{hint}")
            if failure.code == 0:
                raise typer.Exit(REFUSED) from failure
            continue
        if each.is_being_deleted:
            refused += 1
            _error(
                f"{manifest.place}: {_label(manifest)}: it is being deleted, and what was applied"
                " is deleted with it; apply it again when it is gone"
            )
            continue
        applied.append(each)
        echo(f"{each.label} {'created' if each.created else 'applied'}")
    if wait:
        try:
            wait_ready(
                client, applied, timeout, lambda each: echo(f"{each.label} is Ready"), slow=_error
            )
        except (NotReady, ApiFailure) as failure:
            _fail(str(failure), REFUSED)
    if refused:
        raise typer.Exit(REFUSED)


def get(
    kind: Kind,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Name of a resource; default: all.")
    ] = None,
    *,
    namespace: Namespace = "default",
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Show resources of all namespaces.")
    ] = False,
    output: Annotated[
        OutputFormat, typer.Option("--output", "-o", help="Output format.")
    ] = OutputFormat.TABLE,
    server: Server = SERVER,
    token_file: TokenFile = None,
    certificate_authority: Authority = None,
) -> None:
    """Show resources. `kubectl describe`, `explain` and `get -w` also work with this API and show
    more.
    """
    kind, name = _kind_and_name(kind, name)
    if name is not None and all_namespaces:
        _fail("a name belongs to one namespace; leave out -A or the name", UNUSABLE)
    client = connect(server, token_file, certificate_authority)
    place = None if all_namespaces else namespace
    try:
        # A name is one of one kind, so a category is no answer then.
        kinds = (
            [each for word in kind.split(",") for each in client.kinds_called(word)]
            if name is None
            else [client.kind_called(kind)]
        )
        if output in (OutputFormat.JSON, OutputFormat.YAML):
            print_document(_documents(client, kinds, place, name), output)
            return
        tables = [(each, client.table(each, place, name)) for each in kinds]
    except ApiFailure as failure:
        _fail(str(failure), REFUSED)
    shown = [(each, table) for each, table in tables if table.get("rows")]
    if not shown and output is not OutputFormat.NAME:
        namespaced = any(each.namespaced for each in kinds)
        where = (
            f" in namespace {namespace}; -A shows those of all namespaces"
            if place and namespaced
            else ""
        )
        _error(f"no {kinds[0].plural if len(kinds) == 1 else kind}{where}")
    for number, (each, table) in enumerate(shown):
        if number and output is not OutputFormat.NAME:
            echo("")
        with_namespace = all_namespaces and each.namespaced
        print_table(table, each, output, with_namespace=with_namespace, with_kind=len(kinds) > 1)


def _documents(
    client: ApiClient, kinds: Sequence[ServedKind], place: str | None, name: str | None
) -> Document:
    """One object or list as the server has it; of a category one list of all, as kubectl does."""
    found = [client.call("GET", each.path(place, name))[1] for each in kinds]
    if len(found) == 1:
        return found[0]
    items = [item for each in found for item in each["items"]]
    return {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}


def delete(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help="broker, trigger, configmap …; or KIND/NAME."),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Names of resources of this kind."),
    ] = None,
    *,
    filename: Annotated[
        list[str] | None,
        typer.Option("--filename", "-f", help="Delete the resources in these files."),
    ] = None,
    namespace: ManifestNamespace = None,
    server: Server = SERVER,
    token_file: TokenFile = None,
    certificate_authority: Authority = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until the resources are gone.")
    ] = True,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait.")] = 60.0,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="Treat a missing resource as deleted.")
    ] = False,
) -> None:
    """Delete resources. Deleting a Broker or a channel also deletes its topic and the undelivered
    events in it; dead letters are kept for a grace period of seven days
    (`HEADRACE_CONTROLLER_DEAD_LETTER_GRACE_SECONDS`).
    """
    called = _kinds_and_names(kind, names or [])
    if bool(called) == (filename is not None):
        _fail("give KIND and NAME, or -f FILE", UNUSABLE)
    client = connect(server, token_file, certificate_authority)
    missing = 0

    def report_missing(message: str) -> None:
        nonlocal missing
        missing += 1
        if not ignore_not_found:
            _error(message)

    deleted: list[DeletedObject] = []
    try:
        if filename is None:
            place = namespace or _DEFAULT_NAMESPACE
            wanted = [(client.kind_called(word), place, name) for word, name in called]
        else:
            # Delete in reverse order: Triggers before their Broker.
            manifests = list(reversed(_manifests(filename, namespace)))
            wanted = _objects(client, manifests, namespace, report_missing)
        for served, place, name in wanted:
            each = delete_object(client, served, place, name)
            if each is None:
                where = f" in namespace {place}" if served.namespaced else ""
                report_missing(f"{served.qualified}/{name} not found{where}")
            else:
                deleted.append(each)
                echo(f"{each.label} deleted")
        if wait:
            wait_deleted(client, deleted, timeout, slow=_error)
    except (NotDeleted, ApiFailure) as failure:
        _fail(str(failure), REFUSED)
    if missing and not ignore_not_found:
        raise typer.Exit(REFUSED)


def _objects(
    client: ApiClient,
    manifests: Sequence[Manifest],
    namespace: str | None,
    missing: Callable[[str], None],
) -> list[tuple[ServedKind, str, str]]:
    """Kind, namespace and name of each manifest's object. `missing` is called for an object of a
    kind that the server does not have: it cannot exist. Raises ApiFailure.
    """
    found = []
    for each in manifests:
        try:
            kind = client.kind_of(each.api_version, each.kind)
        except ApiFailure as failure:
            if failure.code != NOT_FOUND:
                raise
            missing(f"{each.place}: {_label(each)}: {failure}")
        else:
            if not each.name:
                _fail(f"{each.place}: {_label(each)}: metadata.name is missing", UNUSABLE)
            found.append((kind, each.namespace or namespace or _DEFAULT_NAMESPACE, each.name))
    return found


def _kind_and_name(kind: str, name: str | None) -> tuple[str, str | None]:
    """Accept KIND/NAME, as kubectl does."""
    if name is None and "/" in kind:
        kind, _, name = kind.partition("/")
    if name == "":
        _fail("the name is empty; leave it out to show all", UNUSABLE)
    return kind, name


def _kinds_and_names(kind: str | None, names: Sequence[str]) -> list[tuple[str, str]]:
    """The objects of a command line: KIND NAME..., or KIND/NAME..."""
    if kind is None:
        return []
    if "" in names:
        # As of an unset variable; nothing of this command line may be deleted.
        _fail("a name is empty; name each object", UNUSABLE)
    if "/" not in kind:
        return [(kind, name) for name in names]
    found = []
    for each in (kind, *names):
        word, slash, name = each.partition("/")
        if not (slash and name):
            _fail(f"{each}: after KIND/NAME, give each as KIND/NAME", UNUSABLE)
        found.append((word, name))
    return found


def connect(server: str, token_file: Path | None, certificate_authority: Path | None) -> ApiClient:
    """Return the client for these options; ends the command if they are invalid."""
    try:
        token = _token(token_file) if token_file else ""
        return ApiClient(server, token=token, certificate_authority=certificate_authority)
    except ApiFailure as failure:
        _fail(str(failure), UNUSABLE)


def _token(path: Path) -> str:
    """Return the first token of a file, which may be the token file of the server."""
    try:
        lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
        return next(
            (line.partition(",")[0].strip() for line in lines if line and not line.startswith("#")),
            "",
        )
    except (OSError, UnicodeDecodeError) as error:
        raise ApiFailure(
            f"--token-file {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}"
        ) from error


def _manifests(filenames: Sequence[str], namespace: str | None) -> list[Manifest]:
    """The manifests in these files. One of another namespace than the command line names ends the
    command, before anything is changed: it would not be what the user means.
    """
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
    for manifest in found:
        own = manifest.namespace
        if namespace and own and own != namespace:
            _fail(
                f"{manifest.place}: {_label(manifest)}: it names the namespace {own}, and"
                f" --namespace {namespace}; leave out the option, or give {own}",
                UNUSABLE,
            )
    return found


def _label(manifest: Manifest) -> str:
    return f"{manifest.kind} {manifest.name}".strip()


def _error(message: str) -> None:
    echo(f"headrace: {message}", err=True)


def _fail(message: str, code: int) -> NoReturn:
    _error(message)
    raise typer.Exit(code)
