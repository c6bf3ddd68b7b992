"""The adapter `kubernetes`: ApiServerSource and KubernetesEventSource.

It uses a token of the source's service account where the API server gives this process one, and its
own identity elsewhere. What a source is not allowed to read is a condition that says what to grant.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import ClassVar, Final

import structlog

from headrace.adapters.kubernetes.watcher import (
    ApiKind,
    Refused,
    Scope,
    WatchApi,
)
from headrace.domain.errors import HeadraceError, NotFound, Permanent, Temporary
from headrace.domain.filters import Filter, InvalidFilter
from headrace.domain.filters import compile as compile_filters
from headrace.runtime.tasks import end_task
from headrace_sources.adapters.kubernetes.config import KubernetesConfig, WatchedKind
from headrace_sources.adapters.kubernetes.deliveries import Deliveries
from headrace_sources.adapters.kubernetes.events import EventFormat, Mode
from headrace_sources.adapters.kubernetes.identity import Identity, identify
from headrace_sources.adapters.kubernetes.namespaces import ALL, NamespaceSet
from headrace_sources.adapters.kubernetes.permissions import (
    SUFFICIENT_PERMISSIONS,
    missing_permissions,
)
from headrace_sources.adapters.kubernetes.position import Position, decode, encode
from headrace_sources.adapters.kubernetes.stream import Selection, Stream
from headrace_sources.source import (
    DEPLOYED,
    Emit,
    NotDelivered,
    SourceConfig,
    SourceContext,
    SourceFault,
)

logger = structlog.get_logger(__name__)

SAVE_SECONDS: Final = 2.0
"""How often the cursor is saved at most: what was sent since is sent again after a crash."""
STREAMS_MAX: Final = 500
"""Watches of one source: kinds times namespaces."""
_START_SECONDS: Final = 0.2
"""How often it is saved until all watches are open."""
_STOP_SECONDS: Final = 2.0


class KubernetesSource:
    """Sends an event for each change of the objects that its configuration selects."""

    Config: ClassVar[type[SourceConfig]] = KubernetesConfig

    def __init__(self, config: KubernetesConfig, context: SourceContext) -> None:
        self._config = config
        self._context = context
        self._positions: dict[str, Position] = {}
        self._streams: dict[str, tuple[Stream, asyncio.Task[None]]] = {}
        self._moved = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._server = ""

    async def run(self, emit: Emit) -> None:
        """See `Source`."""
        access = self._context.api_server
        if access is None:
            raise SourceFault(
                "NoApiServer",
                "the sources service has no access to a Kubernetes API server; start it with"
                " --kubeconfig, or in a cluster with --kubernetes",
            )
        try:
            own = access.open()
            self._server = own.server
            self._positions = decode(self._context.cursor, own.server)
            async with own:
                while True:
                    identity = await identify(own, self._config, self._context.namespace)
                    async with identity.api:
                        await self._follow(identity, emit)
        except (NotDelivered, SourceFault):
            raise
        except Temporary as error:
            raise SourceFault("ApiServerUnavailable", str(error)) from error
        except Refused as error:
            raise SourceFault(
                "InsufficientPermissions", str(error), condition=SUFFICIENT_PERMISSIONS
            ) from error
        except Permanent as error:
            raise SourceFault("ApiServerRefused", str(error)) from error

    async def _follow(self, identity: Identity, emit: Emit) -> None:
        """Follow everything until the identity expires."""
        api = identity.api
        kinds = [(each, await self._find(api, each)) for each in self._config.resources]
        selection = self._selection(api)
        self._failed = asyncio.get_running_loop().create_future()
        namespaces = NamespaceSet(api, self._config, self._context.namespace)
        save = asyncio.create_task(self._save_positions(), name="cursor")
        try:
            async with asyncio.timeout_at(identity.until), namespaces:
                while True:
                    self._publish(namespaces, selection.format)
                    self._arrange(api, kinds, namespaces, selection, emit)
                    await self._wait(namespaces, save)
        except TimeoutError:
            logger.info("token_renewed", namespace=self._context.namespace, name=self._context.name)
        except Refused as error:
            scopes = [stream.scope for stream, _ in self._streams.values()]
            message = await missing_permissions(api, [*namespaces.scopes, *scopes], str(error))
            raise SourceFault(
                "InsufficientPermissions", message, condition=SUFFICIENT_PERMISSIONS
            ) from error
        finally:
            await self._end_streams(list(self._streams))
            await end_task(save)
            await self._save_last()

    async def _wait(self, namespaces: NamespaceSet, save: asyncio.Task[None]) -> None:
        """Wait for other namespaces. Raises what a stream has failed with."""
        changed = asyncio.create_task(namespaces.wait())
        tasks = [save, *(task for _, task in self._streams.values())]
        try:
            await asyncio.wait({self._failed, changed, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for each in (self._failed, *tasks, changed):
                if each.done():
                    each.result()
        finally:
            await end_task(changed)

    def _selection(self, api: WatchApi) -> Selection:
        config = self._config
        passes: Filter | None = None
        if config.filters:
            try:
                passes = compile_filters(config.filters)
            except InvalidFilter as error:
                raise SourceFault("InvalidConfiguration", str(error)) from error
        return Selection(
            format=EventFormat(config.mode, api.server, self._context.uid),
            owner=(config.owner.api_version, config.owner.kind) if config.owner else None,
            filter=passes,
        )

    async def _find(self, api: WatchApi, wanted: WatchedKind) -> ApiKind:
        try:
            return await api.find(wanted.api_version, wanted.kind)
        except NotFound as error:
            raise SourceFault(
                "KindNotFound",
                f"the API server has no kind {wanted.kind} in apiVersion {wanted.api_version};"
                " install its CRD, or correct spec.resources",
            ) from error

    def _publish(self, namespaces: NamespaceSet, form: EventFormat) -> None:
        attributes = [{"type": each, "source": form.server} for each in form.types]
        if self._config.mode is Mode.KUBERNETES_EVENT:
            self._context.publish(namespaces=sorted(namespaces.names))
        else:
            self._context.publish(namespaces=sorted(namespaces.names), ceAttributes=attributes)

    def _scopes(
        self, kinds: list[tuple[WatchedKind, ApiKind]], namespaces: NamespaceSet
    ) -> Iterator[tuple[str, Scope]]:
        """What to follow, by its key in the cursor."""
        owner = self._config.owner
        for wanted, kind in kinds:
            names: set[str] = set(namespaces.names) if kind.namespaced else {ALL}
            for name in sorted(names):
                scope = Scope(
                    kind=kind,
                    namespace=None if name == ALL else name,
                    labels=wanted.selector,
                    metadata_only=self._config.mode is Mode.REFERENCE,
                )
                parts = [kind.api_version, kind.plural, name, wanted.selector]
                parts += [f"{owner.api_version}/{owner.kind}"] if owner else []
                yield " ".join(parts), scope

    def _arrange(
        self,
        api: WatchApi,
        kinds: list[tuple[WatchedKind, ApiKind]],
        namespaces: NamespaceSet,
        selection: Selection,
        emit: Emit,
    ) -> None:
        """Follow what is selected now, and nothing else."""
        wanted = dict(self._scopes(kinds, namespaces))
        if len(wanted) > STREAMS_MAX:
            raise SourceFault(
                "TooManyWatches",
                f"{len(wanted)} watches are needed, at most {STREAMS_MAX} are opened; select fewer"
                " namespaces, or all of them with an empty namespaceSelector",
            )
        for key in [each for each in self._positions if each not in wanted]:
            del self._positions[key]
        for key in [each for each in self._streams if each not in wanted]:
            stream, task = self._streams.pop(key)
            stream.deliveries.close()
            task.cancel()
        for key, scope in wanted.items():
            if key not in self._streams:
                since = namespaces.since(scope.namespace)
                position = self._positions.setdefault(key, Position(since))
                self._start(
                    key,
                    Stream(
                        api,
                        scope,
                        selection,
                        position,
                        Deliveries(emit, self._fail),
                        self._context.clock,
                        moved=self._moved.set,
                        reached=self._reached,
                    ),
                )
        self._reached("")

    def _start(self, key: str, stream: Stream) -> None:
        self._streams[key] = (stream, asyncio.create_task(stream.run(), name=f"watch {key}"))

    def _fail(self, error: Exception) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    def _reached(self, problem: str) -> None:
        if problem:
            self._context.report(DEPLOYED, False, "ApiServerUnavailable", problem)
        else:
            self._context.report(DEPLOYED, True)
            self._moved.set()

    @property
    def _open(self) -> bool:
        return all(stream.open for stream, _ in self._streams.values())

    async def _save_positions(self) -> None:
        while True:
            await self._moved.wait()
            is_open = self._open
            try:
                await self._save()
                if is_open:
                    # What changes from now on is not missed, even after a crash.
                    self._context.report(SUFFICIENT_PERMISSIONS, True)
            except HeadraceError as error:
                # What is sent again after a crash is more, nothing is lost.
                logger.warning(
                    "cursor_not_saved",
                    namespace=self._context.namespace,
                    name=self._context.name,
                    error=str(error),
                )
                self._moved.set()
            await asyncio.sleep(SAVE_SECONDS if is_open else _START_SECONDS)

    async def _save(self) -> None:
        self._moved.clear()
        now = self._context.clock.now()
        await self._context.save_cursor(encode(self._server, self._positions, now))

    async def _save_last(self) -> None:
        if self._moved.is_set():
            with contextlib.suppress(HeadraceError, TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._save()

    async def _end_streams(self, keys: list[str]) -> None:
        """Stop reading, give the events on their way a moment, and end."""
        ended = [self._streams.pop(key) for key in keys]
        for _, task in ended:
            task.cancel()
        if ended:
            await asyncio.wait([task for _, task in ended])
        with contextlib.suppress(HeadraceError, TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                for stream, _ in ended:
                    await stream.deliveries.flush()
        for stream, _ in ended:
            stream.deliveries.close()
        if self._failed.done():
            self._failed.exception()  # it was raised, or comes too late
