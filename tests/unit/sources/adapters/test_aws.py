"""AWS sources without AWS: which queue is meant, where it is, what its messages become, and what
credentials and errors say.
"""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from headrace_sources.adapters.aws.client import check_region, parse_credentials_file
from headrace_sources.adapters.aws.faults import AwsFault, fault_of
from headrace_sources.adapters.aws.held_messages import HeldMessages
from headrace_sources.adapters.aws.messages import EventForm, event_of
from headrace_sources.adapters.aws.queue_address import address_of
from headrace_sources.source import SecretKeyRef

FILE = SecretKeyRef(name="aws", key="credentials")


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-north-1.amazonaws.com/123456789012/orders", "eu-north-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/orders", "cn-north-1"),
        ("https://eu-west-2.queue.amazonaws.com/123456789012/orders", "eu-west-2"),
        ("https://queue.amazonaws.com/123456789012/orders", "us-east-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/orders", "us-gov-west-1"),
        ("https://vpce-1-2.sqs.us-east-2.vpce.amazonaws.com/1/orders", "us-east-2"),
    ],
)
def test_the_region_is_in_the_url_of_a_queue(url: str, region: str) -> None:
    """In all forms that AWS has used. The field goes before it."""
    found = address_of(url=url)
    assert (found.region, found.name, found.url, found.endpoint) == (region, "orders", url, "")
    assert address_of(url=url, region="eu-west-1").region == "eu-west-1"


def test_the_url_of_another_server_says_where_its_api_is() -> None:
    """Which has no region, unless its name has one."""
    local = address_of(url="http://sqs.eu-north-1.localhost.localstack.cloud:4566/0/orders")
    assert (local.endpoint, local.region) == (
        "http://sqs.eu-north-1.localhost.localstack.cloud:4566",
        "eu-north-1",
    )
    found = address_of(url="http://127.0.0.1:4566/000000000000/orders.fifo")
    assert (found.endpoint, found.region, found.is_fifo) == ("http://127.0.0.1:4566", "", True)


def test_an_arn_names_region_account_and_queue() -> None:
    """A name alone needs a region."""
    found = address_of(arn="arn:aws:sqs:eu-north-1:123456789012:orders")
    assert (found.region, found.account, found.name) == ("eu-north-1", "123456789012", "orders")
    assert address_of(arn="orders", region="eu-north-1").name == "orders"


@pytest.mark.parametrize(
    ("given", "reason", "said"),
    [
        ({"arn": "orders"}, "UnknownRegion", "set the field region"),
        ({"arn": "arn:aws:s3:::my-queue", "region": "eu-north-1"}, "InvalidQueue", "arn:aws:sqs:"),
        ({"arn": "arn:aws:sqs:r:1:bad name", "region": "r"}, "InvalidQueue", "'bad name'"),
        ({"arn": "x" * 81, "region": "eu-north-1"}, "InvalidQueue", "up to 80"),
        ({"arn": "arn:aws:sqs:a-b-1:1:q", "region": "c-d-1"}, "RegionMismatch", "'c-d-1'"),
        ({"url": "orders"}, "InvalidQueue", "https://sqs.<region>"),
        ({"url": "ftp://sqs.eu-north-1.amazonaws.com/1/q"}, "InvalidQueue", "https://sqs."),
        ({"url": "http://[::1/1/q"}, "InvalidQueue", "https://sqs."),
        ({"url": "https://sqs.eu-north-1.amazonaws.com/"}, "InvalidQueue", "name of a queue"),
    ],
)
def test_what_names_no_queue_is_refused(given: dict[str, str], reason: str, said: str) -> None:
    """With what to correct."""
    with pytest.raises(AwsFault) as raised:
        address_of(**given)
    assert raised.value.reason == reason
    assert said in str(raised.value)
    assert not raised.value.transient


@pytest.mark.parametrize("region", ["eu-north-1", "cn-north-1", "us-gov-west-1", "eu-future-9"])
def test_regions_that_look_like_one_are_let_through(region: str) -> None:
    """Newer ones too."""
    check_region(region)


def test_a_credentials_file_is_read() -> None:
    """Its default profile."""
    text = b"[default]\naws_access_key_id = A\naws_secret_access_key=B%c\naws_session_token = T\n"
    found = parse_credentials_file(text, FILE)
    assert (found.access_key, found.secret_key, found.session_token) == ("A", "B%c", "T")
    assert "B%c" not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"s3cret",
        b"[default]\naws_access_key_id = s3cret\n",
        b"[other]\naws_access_key_id = s3cret\naws_secret_access_key = s3cret\n",
        b"[default]\ns3cret\n",
        b"\xffs3cret",
    ],
)
def test_a_file_that_is_none_is_refused_without_being_shown(text: bytes) -> None:
    """It names the Secret and the key."""
    with pytest.raises(AwsFault) as raised:
        parse_credentials_file(text, FILE)
    assert raised.value.reason == "InvalidSecret"
    assert "key credentials of Secret aws" in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None


def message(id: str, group: str | None = None, **more: Any) -> dict[str, Any]:
    """A message as the API has it."""
    attributes = {"SentTimestamp": "1600000000123"}
    if group is not None:
        attributes["MessageGroupId"] = group
    given = {"MessageId": id, "ReceiptHandle": f"r-{id}", "Body": "x", "Attributes": attributes}
    return {**given, **more}


def test_the_time_is_in_milliseconds() -> None:
    """Which Knative 0.5 took for seconds. The group of a message is the partition key."""
    event = event_of(message("1", "g"), EventForm("t", "/s"))
    assert event.attributes["time"] == "2020-09-13T12:26:40.123Z"
    assert event.attributes["partitionkey"] == "g"


@pytest.mark.parametrize("time", ["", "-1", "yesterday", "9" * 40])
def test_a_time_that_is_none_is_left_out(time: str) -> None:
    """The event is sent all the same."""
    odd = message("1", Attributes={"SentTimestamp": time})
    assert "time" not in event_of(odd, EventForm("t", "/s")).attributes


def test_binary_attributes_are_base64() -> None:
    """In the form of the whole message."""
    given = {"picture": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}
    event = event_of(
        message("1", MessageAttributes=given), EventForm("t", "/s", whole_message=True)
    )
    shown = json.loads(event.data or b"")["MessageAttributes"]["picture"]
    assert (shown["BinaryValue"], shown["StringValue"]) == ("AP8=", None)


def test_messages_of_one_group_wait_for_each_other() -> None:
    """Those without a group do not."""
    held = HeldMessages()
    assert held.add(message("1", "g"), 10.0) == "group g"
    assert held.add(message("2", "g"), 11.0) is None
    assert held.add(message("3"), 12.0) == "message 3"
    assert len(held) == held.bytes == 3
    first = held.first("group g")
    assert first is not None
    assert first.id == "1"
    assert [each.id for each in held.visible_before(12.0)] == ["1", "2"]
    held.remove_first("group g")
    second = held.first("group g")
    assert second is not None
    assert second.id == "2"
    assert [each.id for each in held.remove_lane("group g")] == ["2"]
    assert held.first("group g") is None
    assert first not in held
    assert held.bytes == 1


def test_a_message_that_is_delivered_again_meanwhile_is_not_sent_twice() -> None:
    """Its newer receipt is the one to delete it with."""
    held = HeldMessages()
    held.add(message("1", "g"), 10.0)
    assert held.add(message("1", "g", ReceiptHandle="newer"), 20.0) is None
    [present] = held
    assert (present.receipt, present.hidden_until) == ("newer", 20.0)
    held.remove_first("group g")
    assert len(held) == 0


@pytest.mark.parametrize(
    ("code", "status", "reason", "transient"),
    [
        ("AWS.SimpleQueueService.NonExistentQueue", 400, "QueueNotFound", False),
        ("InvalidClientTokenId", 403, "CredentialsRefused", False),
        ("ExpiredToken", 403, "CredentialsRefused", False),
        ("AccessDeniedException", 400, "PermissionDenied", False),
        ("KMS.DisabledException", 400, "PermissionDenied", False),
        ("Unheard", 403, "PermissionDenied", False),
        ("InvalidParameterValue", 400, "InvalidRequest", False),
        ("ThrottlingException", 400, "RequestFailed", True),
        ("RequestThrottled", 403, "RequestFailed", True),
        ("OverLimit", 403, "RequestFailed", True),
        ("Unheard", 429, "RequestFailed", True),
        ("InternalFailure", 500, "RequestFailed", True),
        ("Unheard", 400, "RequestFailed", False),
    ],
)
def test_an_answer_says_whether_to_try_again(
    code: str, status: int, reason: str, transient: bool
) -> None:
    """What nobody but a user can change is not tried again and again."""
    response: Any = {
        "Error": {"Code": code, "Message": "because"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    fault = fault_of(ClientError(response, "ReceiveMessage"), "queue orders in region r")
    assert (fault.reason, fault.transient) == (reason, transient)
    assert "queue orders in region r" in str(fault)


def test_the_code_of_the_query_protocol_is_found() -> None:
    """Some servers answer with it to a request in JSON."""
    text = "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>"
    response: Any = {
        "Error": {"Code": "403", "Message": text},
        "ResponseMetadata": {"HTTPStatusCode": 403},
    }
    assert fault_of(ClientError(response, "X"), "q").reason == "CredentialsRefused"


def test_a_connection_that_fails_is_tried_again() -> None:
    """With the region and the endpoint to check."""
    fault = fault_of(EndpointConnectionError(endpoint_url="https://x"), "queue q in region r")
    assert (fault.reason, fault.transient) == ("Unreachable", True)
