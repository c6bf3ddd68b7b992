"""A server that speaks the APIs of AWS, for tests: moto's, a process of its own on loopback.

Run as a module it prints its port. It has what SQS has of long polls, visibility timeouts, FIFO
queues and dead letter queues, and checks signatures and policies when asked to.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace.runtime.suspension import suspend

ACCOUNT = "123456789012"
REGION = "eu-north-1"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
_NO_CHECKS = 10**9


@dataclass(frozen=True)
class AccessKey:
    """The credentials of a user of the server."""

    id: str
    secret: str

    @property
    def file(self) -> bytes:
        """As a credentials file."""
        return (
            f"[default]\naws_access_key_id = {self.id}\naws_secret_access_key = {self.secret}\n"
        ).encode()


ANY_KEY = AccessKey("testing", "testing")
"""Good while the server does not check."""


class AwsServer:
    """One server."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "aws-server.log"
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Start and wait until it answers."""
        with self._log.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.aws_server"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the server has not started: {self._log.read_text(encoding='utf-8')}"
        self.url = f"http://127.0.0.1:{int(line)}"

    def stop(self) -> None:
        """End it; its queues are gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(STOP_SECONDS)
            if process.stdout is not None:
                process.stdout.close()

    def freeze(self) -> None:
        """Let it answer nothing until `thaw`."""
        assert self._process is not None
        suspend(self._process)

    def thaw(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self, service: str, key: AccessKey = ANY_KEY, region: str = REGION) -> Any:
        """A client of boto3."""
        # Not at the top: every test would import it, which takes half a second.
        import boto3

        return boto3.client(
            service,
            region_name=region,
            endpoint_url=self.url,
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret,
        )

    def queue(self, name: str, region: str = REGION, **attributes: str) -> "Queue":
        """Create a queue."""
        if name.endswith(".fifo"):
            attributes |= {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        client = self.client("sqs", region=region)
        url = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return Queue(client, name, url, region)

    def user(self, name: str, *actions: str) -> AccessKey:
        """Create a user who may do these things."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return AccessKey(key["AccessKeyId"], key["SecretAccessKey"])

    @contextlib.contextmanager
    def checking(self) -> Iterator[None]:
        """Check credentials and policies while the block runs."""
        self._reset_auth(0)
        try:
            yield
        finally:
            self._reset_auth(_NO_CHECKS)

    def _reset_auth(self, unchecked: int) -> None:
        request = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth",
            data=str(unchecked).encode(),
            headers={"Content-Type": "text/plain"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            response.read()


@dataclass(frozen=True)
class Queue:
    """One queue, as its owner uses it."""

    client: Any
    name: str
    url: str
    region: str

    @property
    def arn(self) -> str:
        """Its ARN."""
        return f"arn:aws:sqs:{self.region}:{ACCOUNT}:{self.name}"

    def send(self, body: str, group: str | None = None, **attributes: str) -> str:
        """Send a message; return its id."""
        given: dict[str, Any] = {"MessageGroupId": group} if group is not None else {}
        if attributes:
            given["MessageAttributes"] = {
                name: {"DataType": "String", "StringValue": value}
                for name, value in attributes.items()
            }
        answer = self.client.send_message(QueueUrl=self.url, MessageBody=body, **given)
        return str(answer["MessageId"])

    def counts(self) -> tuple[int, int]:
        """How many messages are visible, and how many are hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer: Mapping[str, Any] = self.client.get_queue_attributes(
            QueueUrl=self.url, AttributeNames=names
        )
        visible, hidden = (int(answer["Attributes"][name]) for name in names)
        return visible, hidden

    @property
    def is_empty(self) -> bool:
        """Whether every message was deleted."""
        return self.counts() == (0, 0)

    def receive(self) -> list[dict[str, Any]]:
        """Read what is visible, as another reader."""
        answer = self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10)
        return list(answer.get("Messages", []))


@contextlib.contextmanager
def aws_server() -> Iterator[AwsServer]:
    """A server that runs until the block ends."""
    with tempfile.TemporaryDirectory(prefix="aws-server-") as directory:
        server = AwsServer(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def aws() -> Iterator[AwsServer]:
    """One server for all tests; each has queues of its own."""
    with aws_server() as server:
        yield server


def main() -> None:
    """Serve on a free port, and print it."""
    os.environ.setdefault("INITIAL_NO_AUTH_ACTION_COUNT", str(_NO_CHECKS))
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from moto.sqs.models import Queue
    from werkzeug.serving import make_server

    delete = Queue.delete_message

    def delete_message(queue: Queue, receipt_handle: str) -> None:
        # moto builds a new list: a message that was sent meanwhile is not in it.
        with queue._messages_lock:
            delete(queue, receipt_handle)

    Queue.delete_message = delete_message  # type: ignore[assignment, method-assign]

    server = make_server(
        "127.0.0.1",
        0,
        DomainDispatcherApplication(create_backend_app),
        threaded=True,
        request_handler=MotoRequestHandler,
    )
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
