"""The requests to one queue of SQS."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from headrace_sources.adapters.aws.client import ATTEMPTS_MAX, CONNECT_SECONDS, READ_SECONDS
from headrace_sources.adapters.aws.faults import AwsFault, fault_of
from headrace_sources.adapters.aws.queue_address import QueueAddress

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

logger = structlog.get_logger(__name__)

BATCH_MAX: Final = 10
"""Messages that one request may read, delete or keep."""
WAIT_SECONDS_MAX: Final = 20
VISIBILITY_SECONDS_DEFAULT: Final = 30
"""Where the queue's own cannot be read, or is 0."""
_DEADLINE_SECONDS: Final = ATTEMPTS_MAX * (CONNECT_SECONDS + READ_SECONDS) + 10.0
"""For one call, its retries included."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Failed:
    """What a request for several messages has not done for one of them."""

    receipt: str
    code: str
    by_sender: bool
    """Whether it is of no use to try again."""


class SqsQueue:
    """One queue. Every method raises `AwsFault`."""

    def __init__(self, client: "SQSClient", address: QueueAddress) -> None:
        self._client = client
        self._url = address.url
        self.address = address
        self.visibility_seconds = VISIBILITY_SECONDS_DEFAULT
        """How long a message that was read is hidden from other readers."""

    async def open(self, *, create: bool, visibility_seconds: int | None) -> None:
        """Find the queue, and how long it hides messages unless `visibility_seconds` says so;
        `create` it if there is none.
        """
        if not self._url:
            self._url = await self._find(create)
        own = await self._own_visibility_seconds()
        self.visibility_seconds = visibility_seconds or own or VISIBILITY_SECONDS_DEFAULT

    async def _find(self, create: bool) -> str:
        address = self.address
        owner = {"QueueOwnerAWSAccountId": address.account} if address.account else {}
        try:
            found = await self._call(self._client.get_queue_url(QueueName=address.name, **owner))
        except AwsFault as fault:
            if fault.reason != "QueueNotFound" or not create:
                raise
            made = await self._call(
                self._client.create_queue(
                    QueueName=address.name,
                    Attributes={"FifoQueue": "true"} if address.is_fifo else {},
                )
            )
            logger.info("queue_created", queue=address.name, region=address.region)
            return made["QueueUrl"]
        return found["QueueUrl"]

    async def _own_visibility_seconds(self) -> int:
        """The queue's own setting; the default where the credentials may not read it."""
        try:
            answer = await self._call(
                self._client.get_queue_attributes(
                    QueueUrl=self._url, AttributeNames=["VisibilityTimeout"]
                )
            )
        except AwsFault as fault:
            if fault.reason == "PermissionDenied":
                return VISIBILITY_SECONDS_DEFAULT
            raise
        return int(answer.get("Attributes", {}).get("VisibilityTimeout", 0))

    async def receive(
        self, messages_max: int, wait_seconds: int, attempt: str | None
    ) -> Sequence[Mapping[str, Any]]:
        """Return the next messages, as the API has them; none if none arrived in `wait_seconds`.

        A request with the same `attempt` gets the same messages, which matters for a FIFO queue:
        its message groups are held back while the answer may have been lost.
        """
        given = {"ReceiveRequestAttemptId": attempt} if attempt is not None else {}
        call = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=min(messages_max, BATCH_MAX),
            WaitTimeSeconds=wait_seconds,
            VisibilityTimeout=self.visibility_seconds,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
            **given,  # type: ignore[arg-type]
        )
        answer = await self._call(call, ATTEMPTS_MAX * wait_seconds)
        return answer.get("Messages", [])

    async def delete(self, receipts: Sequence[str]) -> Sequence[Failed]:
        """Delete up to 10 messages; return those that were not deleted."""
        entries = [{"Id": str(i), "ReceiptHandle": each} for i, each in enumerate(receipts)]
        answer = await self._call(
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)  # type: ignore[arg-type]
        )
        return _failed(receipts, answer)

    async def hide(self, receipts: Sequence[str], seconds: int) -> Sequence[Failed]:
        """Hide up to 10 messages from other readers for so long from now; return those that were
        not hidden.
        """
        entries = [
            {"Id": str(i), "ReceiptHandle": each, "VisibilityTimeout": seconds}
            for i, each in enumerate(receipts)
        ]
        answer = await self._call(
            self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)  # type: ignore[arg-type]
        )
        return _failed(receipts, answer)

    async def _call(self, call: Awaitable[_Answer], wait_seconds: float = 0.0) -> _Answer:
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS + wait_seconds):
                return await call
        except (BotoCoreError, ClientError, TimeoutError) as error:
            raise fault_of(error, str(self.address)) from None


def _failed(receipts: Sequence[str], answer: Mapping[str, Any]) -> Sequence[Failed]:
    return [
        Failed(
            receipts[int(each["Id"])], str(each.get("Code")), bool(each.get("SenderFault", False))
        )
        for each in answer.get("Failed", [])
    ]
