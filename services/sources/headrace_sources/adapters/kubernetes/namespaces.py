"""The namespaces that a source follows: one, those with some labels, or all."""

import asyncio
from types import TracebackType
from typing import Final

from headrace.adapters.kubernetes.watcher import ApiKind, Scope, VersionExpired, WatchApi
from headrace.domain.backoff import Backoff
from headrace.domain.errors import Temporary
from headrace.runtime.tasks import end_task
from headrace_sources.adapters.kubernetes.config import KubernetesConfig
from headrace_sources.adapters.kubernetes.position import version_of

ALL: Final = ""
"""The name that stands for all namespaces, in the status too, as in Knative."""
_NAMESPACES: Final = ApiKind("v1", "Namespace", "namespaces", namespaced=False)
_BACKOFF: Final = Backoff((0.2, 1.0, 5.0, 15.0))


class NamespaceSet:
    """A context manager, within which `names` follows the selector."""

    def __init__(self, api: WatchApi, config: KubernetesConfig, namespace: str) -> None:
        """`namespace` is that of the source."""
        self._api = api
        self._selector = config.namespace_selector
        self._scope = Scope(kind=_NAMESPACES, namespace=None, labels=self._selector or "")
        self._task: asyncio.Task[None] | None = None
        self._version = ""
        self._since: dict[str, str] = {}
        self.names: set[str] = {config.namespace or namespace}
        if self._selector == "":
            self.names = {ALL}
        self.changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when `names` has changed, and then replaced; its error is that the namespaces cannot
        be read.
        """

    def since(self, namespace: str | None) -> str:
        """The resourceVersion from which a namespace is followed that was not selected before;
        empty for one that was there from the start: what it has is old.
        """
        return self._since.get(namespace or ALL, "")

    async def __aenter__(self) -> "NamespaceSet":
        """Read the namespaces. Raises what `WatchApi` raises."""
        if self._selector:
            self.names = await self._list()
            self._task = asyncio.create_task(self._follow(), name="namespaces")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop reading them."""
        await end_task(self._task)
        if self.changed.done() and not self.changed.cancelled():
            self.changed.exception()  # it was raised, or comes too late

    async def wait(self) -> None:
        """Wait until `names` has changed. Raises what `WatchApi` raises."""
        await asyncio.shield(self.changed)
        self.changed = asyncio.get_running_loop().create_future()

    @property
    def scopes(self) -> list[Scope]:
        """What has to be readable for it."""
        return [self._scope] if self._selector else []

    async def _list(self) -> set[str]:
        names: set[str] = set()
        token, version = "", ""
        while True:
            page = await self._api.list_page(self._scope, token=token)
            version = version or page.version
            names |= {str(each["metadata"]["name"]) for each in page.items}
            token = page.next
            if not token:
                self._version = version
                return names

    async def _follow(self) -> None:
        failures = 0
        try:
            while True:
                try:
                    await self._watch()
                    failures = 0
                except VersionExpired:
                    failures += 1
                    self._set(await self._list(), self._version)
                except Temporary:
                    failures += 1
                await asyncio.sleep(_BACKOFF.seconds(max(failures, 1)))
        except Exception as error:
            if not self.changed.done():
                self.changed.set_exception(error)

    async def _watch(self) -> None:
        async with self._api.watch(self._scope, self._version) as changes:
            async for change in changes:
                version = version_of(change.object)
                if change.type != "BOOKMARK":
                    name = {str(change.object["metadata"]["name"])}
                    gone = change.type == "DELETED"
                    self._set(self.names - name if gone else self.names | name, version)
                self._version = version

    def _set(self, names: set[str], version: str) -> None:
        if names == self.names:
            return
        self._since |= dict.fromkeys(names - self.names, version)
        self.names = names
        if not self.changed.done():
            self.changed.set_result(None)
