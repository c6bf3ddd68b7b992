"""GitHub: registers a webhook, and sends what GitHub reports to it as events.

Every process receives; one of them, which has the lease, keeps the webhook at GitHub as it should
be. The URL of the webhook has the uid of the resource, by which each process finds it before it
creates one, and under another public URL too. GitHub does not repeat a request that has failed, but
keeps it for three days: the same process lets GitHub send such requests again.
"""

import asyncio
from typing import ClassVar, Final

import structlog
from pydantic import Field

from headrace.domain.backoff import Backoff
from headrace_sources.adapters.github_api import GitHubHooks, Hook
from headrace_sources.adapters.github_events import Naming
from headrace_sources.adapters.github_faults import TEMPORARY, WEBHOOK_CONFIGURED, GitHubFault
from headrace_sources.adapters.github_receiver import GitHubReceiver
from headrace_sources.adapters.github_redelivery import Redelivery
from headrace_sources.adapters.webhook_signatures import (
    Scheme,
    check_secret,
)
from headrace_sources.source import (
    Emit,
    SecretKeyRef,
    SourceConfig,
    SourceContext,
    SourceFault,
    WebhookRequest,
    WebhookResponse,
)

logger = structlog.get_logger(__name__)

SECRETS_PROVIDED: Final = "SecretsProvided"
ID_FIELD: Final = "webhookIDKey"
ADDRESS_FIELD: Final = "webhookAddress"
"""The hook in GitHub's API: it is removed there when the source is moved to another repository."""
VALUE_INVALID: Final = "SecretInvalid"
VALUE_MISSING: Final = "SecretNotFound"
"""The reason of `SourceContext.secret`."""
WEBSITE: Final = "https://github.com/"
_QUERY: Final = "source"
BACKOFF: Final = Backoff((1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0))


class GitHubConfig(SourceConfig):
    """Fields of the resource, and how often the webhook is looked at."""

    owner_and_repository: str = Field(min_length=1)
    event_types: tuple[str, ...] = Field(min_length=1)
    access_token: SecretKeyRef
    secret_token: SecretKeyRef
    api_url: str = Field("https://api.github.com/", alias="githubAPIURL")
    secure: bool = False
    naming: Naming = "knative"
    check_seconds: float = Field(600.0, gt=0)
    """How often the webhook is compared with the resource."""
    redelivery_seconds: float = Field(60.0, gt=0)
    """How often requests that have failed are looked for."""

    @property
    def origin(self) -> str:
        """The attribute `source`."""
        return WEBSITE + self.owner_and_repository.strip("/")


class GitHubSource:
    """See the module."""

    Config: ClassVar[type[SourceConfig]] = GitHubConfig

    def __init__(self, config: GitHubConfig, context: SourceContext) -> None:
        self._config, self._context = config, context

    async def run(self, emit: Emit) -> None:
        """Receive; register the webhook if this process is the one to do it."""
        hooks, secret = await self._hooks(), await self._read(self._config.secret_token)
        self._context.report(SECRETS_PROVIDED, True)
        receiver = GitHubReceiver(
            secret.encode(),
            emit,
            naming=self._config.naming,
            origin=self._config.origin,
            clock=self._context.clock,
        )
        with self._context.receive(receiver.handle) as address:
            await self._context.lead()
            self._context.report(WEBHOOK_CONFIGURED, None, "Configuring", "GitHub is being asked")
            await self._keep(hooks, self._url(address), secret)

    async def finalize(self) -> None:
        """Remove the webhook. It is left at GitHub if this source can no longer remove it."""
        try:
            hooks = await self._hooks()
            address = await self._address_to_remove(hooks)
            if address:
                await hooks.delete(address)
        except GitHubFault as fault:
            if fault.reason in TEMPORARY:
                raise
            self._log_left(fault)
        except SourceFault as fault:
            if fault.reason not in (VALUE_MISSING, VALUE_INVALID):
                raise
            self._log_left(fault)
        self._context.publish(**{ID_FIELD: None, ADDRESS_FIELD: None})

    async def _address_to_remove(self, hooks: GitHubHooks) -> str:
        published = self._context.published
        if address := str(published.get(ADDRESS_FIELD) or ""):
            return address
        if id := str(published.get(ID_FIELD) or ""):
            return f"{hooks.url}/{id}"
        # A process may have ended after it had created the hook and before that was stored.
        with self._context.receive(_gone) as url:
            hook = next(iter(await self._present(hooks, self._url(url))), None)
        return f"{hooks.url}/{hook.id}" if hook is not None else ""

    def _log_left(self, fault: SourceFault) -> None:
        logger.warning(
            "webhook_left_at_github",
            namespace=self._context.namespace,
            name=self._context.name,
            reason=fault.reason,
            error=str(fault),
            next_step="remove it in the settings of the repository",
        )

    async def _hooks(self) -> GitHubHooks:
        token = await self._read(self._config.access_token)
        return GitHubHooks(
            api_url=self._config.api_url,
            owner_and_repository=self._config.owner_and_repository,
            token=token,
            address_denied=self._context.address_denied,
            clock=self._context.clock,
        )

    async def _read(self, reference: SecretKeyRef) -> str:
        try:
            value = check_secret(Scheme.GITHUB, await self._context.secret(reference))
            return value.decode()
        except SourceFault as fault:
            raise SourceFault(fault.reason, str(fault), condition=SECRETS_PROVIDED) from None
        except ValueError:
            raise SourceFault(
                VALUE_INVALID,
                f"key {reference.key} of Secret {self._context.namespace}/{reference.name} is empty"
                " or not text; put the value there",
                condition=SECRETS_PROVIDED,
            ) from None

    def _url(self, address: str) -> str:
        """What GitHub calls."""
        if self._config.secure and address.startswith("http://"):
            address = "https://" + address.removeprefix("http://")
        return f"{address}?{_QUERY}={self._context.uid}"

    # The webhook at GitHub.

    async def _keep(self, hooks: GitHubHooks, url: str, secret: str) -> None:
        """Register the webhook, and look at it from time to time. What fails is tried again, and
        requests are received meanwhile.
        """
        redelivery = Redelivery(hooks, self._context.clock)
        failures, checked, hook = 0, 0.0, None
        while True:
            wait = self._config.redelivery_seconds
            try:
                now = self._context.clock.monotonic()
                if hook is None or now - checked >= self._config.check_seconds:
                    # The first time the hook is written whatever it is: its secret is not shown.
                    hook = await self._ensure(hooks, url, secret, write=hook is None)
                    checked = now
                await redelivery.run(hook.id)
                failures = 0
            except GitHubFault as fault:
                failures += 1
                wait = max(fault.wait, BACKOFF.seconds(failures))
                self._report_fault(fault)
                if hook is not None:
                    checked = -self._config.check_seconds  # Look at it first.
            await asyncio.sleep(wait)

    def _report_fault(self, fault: GitHubFault) -> None:
        self._context.report(WEBHOOK_CONFIGURED, False, fault.reason, str(fault))
        logger.warning(
            "webhook_not_configured",
            namespace=self._context.namespace,
            name=self._context.name,
            reason=fault.reason,
            error=str(fault),
        )

    async def _ensure(self, hooks: GitHubHooks, url: str, secret: str, *, write: bool) -> Hook:
        events = tuple(sorted(set(self._config.event_types)))
        hook = await self._own(hooks, url)
        if hook is None:
            # If another one was created meanwhile, GitHub refuses, and it is found the next time.
            hook = await hooks.create(url, secret, events)
        elif write or _differs(hook, url, events):
            hook = await hooks.update(hook.id, url, secret, events)
        self._context.publish(**{ID_FIELD: str(hook.id), ADDRESS_FIELD: f"{hooks.url}/{hook.id}"})
        self._context.report(WEBHOOK_CONFIGURED, True)
        return hook

    async def _own(self, hooks: GitHubHooks, url: str) -> Hook | None:
        """The hook of this source, by its id or its URL."""
        published = self._context.published
        address, id = str(published.get(ADDRESS_FIELD) or ""), str(published.get(ID_FIELD) or "")
        if address and address.rpartition("/")[0] != hooks.url:
            await self._remove(hooks, address)
            id = ""
        stored = await hooks.get(id) if id else None
        present = await self._present(hooks, url, besides=id)
        if stored is not None:
            present.insert(0, stored)
        for each in present[1:]:
            # Two processes have created one each, while the lease went from one to the other.
            if each.url.partition("?")[2] == url.partition("?")[2]:
                await self._remove(hooks, f"{hooks.url}/{each.id}")
        return present[0] if present else None

    async def _present(self, hooks: GitHubHooks, url: str, *, besides: str = "") -> list[Hook]:
        """The hooks that are for this source; the one with the id `besides` is left out."""
        base, _, query = url.partition("?")
        return [
            each
            for each in await hooks.all()
            if str(each.id) != besides
            and (each.url.partition("?")[0] == base or each.url.partition("?")[2] == query)
        ]

    async def _remove(self, hooks: GitHubHooks, address: str) -> None:
        """Remove a hook that is not needed; leave it if that is not allowed."""
        try:
            await hooks.delete(address)
        except GitHubFault as fault:
            if fault.reason in TEMPORARY:
                raise
            self._log_left(fault)


def _differs(hook: Hook, url: str, events: tuple[str, ...]) -> bool:
    return (hook.url, hook.events, hook.active, hook.content_type) != (url, events, True, "json")


async def _gone(_: WebhookRequest) -> WebhookResponse:
    return WebhookResponse(410, "the source is being deleted\n")
