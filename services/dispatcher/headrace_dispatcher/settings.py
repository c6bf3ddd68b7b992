"""The settings of the dispatcher: `HEADRACE_DISPATCHER_*`."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace_dispatcher.environment import Limits

_LIMITS = Limits()


class DispatcherSettings(BaseSettings):
    """What an operator may set for one dispatcher process."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_DISPATCHER_", frozen=True, extra="forbid", env_ignore_empty=True)

    instance: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="lasting name of this process (a StatefulSet's pod name, say): it gets its partitions back at once after a crash",
    )
    concurrency_max: int = Field(default=_LIMITS.concurrency_max, ge=1, le=10_000, description="requests at once to one subscriber")
    retry_concurrency_max: int = Field(default=_LIMITS.retry_concurrency_max, ge=1, le=10_000, description="of retries, beside them")
    records_max: int = Field(
        default=_LIMITS.unordered_records_max, ge=16, le=100_000, description="records in hand of one subscription, unordered"
    )
    ordered_records_max: int = Field(
        default=_LIMITS.ordered_records_max, ge=16, le=100_000, description="records in hand of one subscription, ordered"
    )
    subscription_bytes_max: int = Field(default=_LIMITS.bytes_max, ge=2 * 1024 * 1024, description="bytes in hand of one subscription")
    bytes_max: int = Field(default=16 * 1024 * 1024, ge=8 * 1024 * 1024, description="bytes in hand and prefetched, of all subscriptions")
    hops_max: int = Field(default=_LIMITS.hops_max, ge=1, le=10_000, description="replies to replies before the chain is taken for a loop")
    reply_bytes_max: int = Field(default=65_536, ge=1024, le=1_048_576, description="bytes of a response that are read")
    drain_seconds: float = Field(default=5.0, gt=0, le=60, description="time to finish what is in hand when partitions are given back")
    append_bytes_max: int = Field(default=16 * 1024 * 1024, ge=2 * 1024 * 1024, description="bytes on their way to one topic")

    def limits(self) -> Limits:
        """As the subscriptions take them."""
        return Limits(
            concurrency_max=self.concurrency_max,
            retry_concurrency_max=self.retry_concurrency_max,
            unordered_records_max=self.records_max,
            ordered_records_max=self.ordered_records_max,
            bytes_max=self.subscription_bytes_max,
            hops_max=self.hops_max,
        )
