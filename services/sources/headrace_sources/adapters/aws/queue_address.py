"""Which queue a source names: by URL, by ARN or by name."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from headrace_sources.adapters.aws.faults import AwsFault

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
_ARN_PARTS: Final = 6
_AWS_HOST: Final = re.compile(
    r"(?:(?:sqs|sqs-fips|[a-z0-9-]+\.sqs)\.(?P<modern>[a-z0-9-]+)"
    r"|(?:(?P<old>[a-z0-9-]+)\.)?queue)"
    r"\.(?:vpce\.)?amazonaws\.(?:com|com\.cn|eu)"
)
"""https://docs.aws.amazon.com/general/latest/gr/sqs-service.html"""
_LIKE_AWS: Final = re.compile(r"sqs\.([a-z]{2,4}(?:-[a-z]+)+-\d)\..+")
"""Hosts of other servers that have the region where AWS has it."""
_OLD_REGION: Final = "us-east-1"
"""The region of `queue.amazonaws.com`, the only one of these hosts without a region."""


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """Where a queue is. The URL is empty if it has to be looked up by name."""

    url: str
    name: str
    account: str
    """The account that owns it; empty for that of the credentials."""
    region: str
    """Empty if only `endpoint` says where it is."""
    endpoint: str
    """Empty for AWS's own endpoint of the region."""

    @property
    def is_fifo(self) -> bool:
        """Whether it keeps the order of each message group."""
        return self.name.endswith(".fifo")

    def __str__(self) -> str:
        where = f"region {self.region}" if self.region else self.endpoint
        return f"queue {self.name} in {where}"


def address_of(
    *, arn: str = "", url: str = "", region: str = "", endpoint: str = ""
) -> QueueAddress:
    """Return the address for the fields of a source: `arn` is an ARN or a name, and `url` is used
    instead of it if both are given. `region` and `endpoint` go before what the ARN or the URL say.

    Raises `AwsFault` that says what to correct.
    """
    if url:
        return _of_url(url, region, endpoint)
    if not arn.startswith("arn:"):
        return QueueAddress("", _checked(arn), "", _needed(region, endpoint, arn), endpoint)
    parts = arn.split(":")
    if len(parts) != _ARN_PARTS or parts[2] != "sqs":
        raise AwsFault(
            "InvalidQueue",
            f"{arn[:200]!r} is not the ARN of a queue; it has the form"
            " arn:aws:sqs:<region>:<account>:<queue>",
        )
    if region and parts[3] and parts[3] != region:
        raise AwsFault(
            "RegionMismatch",
            f"the ARN names region {parts[3][:64]!r}, and the field region {region[:64]!r}; make"
            " them equal",
        )
    found = region or parts[3]
    return QueueAddress("", _checked(parts[5]), parts[4], _needed(found, endpoint, arn), endpoint)


def _of_url(url: str, region: str, endpoint: str) -> QueueAddress:
    try:
        parsed = urlsplit(url)
        host, _port = parsed.hostname or "", parsed.port
    except ValueError:
        host = ""
    if not host or parsed.scheme not in ("http", "https"):
        raise AwsFault(
            "InvalidQueue",
            f"{url[:200]!r} is not the URL of a queue; it has the form"
            " https://sqs.<region>.amazonaws.com/<account>/<queue>",
        )
    name = _checked(parsed.path.rpartition("/")[2])
    matched = _AWS_HOST.fullmatch(host)
    if matched is None:
        own = endpoint or f"{parsed.scheme}://{parsed.netloc}"
        like_aws = _LIKE_AWS.fullmatch(host)
        return QueueAddress(url, name, "", region or (like_aws[1] if like_aws else ""), own)
    found = region or matched["modern"] or matched["old"] or _OLD_REGION
    return QueueAddress(url, name, "", found, endpoint)


def _checked(name: str) -> str:
    if _NAME.fullmatch(name):
        return name
    raise AwsFault(
        "InvalidQueue",
        f"{name[:100]!r} is not the name of a queue; it has up to 80 letters, digits, hyphens and"
        " underscores, and may end with .fifo",
    )


def _needed(region: str, endpoint: str, queue: str) -> str:
    if region or endpoint:
        return region
    raise AwsFault(
        "UnknownRegion", f"the region of queue {queue[:100]} is not given; set the field region"
    )
