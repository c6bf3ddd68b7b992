"""`headrace dead-letters`: how dead letters are shown, and the output when there are none."""

import json
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner, Result

from headrace.adapters.manifests import read_manifests
from headrace.codec import delivery_state
from headrace.domain.record import StoredRecord
from headrace_cli.apply import apply_manifest
from headrace_cli.client import ApiClient, ApiFailure
from headrace_cli.dead_letter_output import (
    print_dead_letter,
    print_dead_letters,
    print_topics,
)
from headrace_cli.dead_letter_view import of_id, summary, without_originals
from headrace_cli.dead_letters import _topic_of, register
from headrace_cli.terminal import ResultFormat
from tests.unit.apiserver.running_api import running_api

RECORD = StoredRecord(
    topic="g.dead",
    partition=0,
    offset=7,
    timestamp_ms=1_700_000_000_000,
    key=None,
    value=b'{"order": 1}',
    headers=[
        ("ce_knativeerrordest", b"http://x/"),
        ("ce_knativeerrorcode", b"500"),
        ("ce_knativeerrordata", b"b29wcw=="),
        ("ce_id", b"a-1"),
        ("ce_type", b"order\x1b[31m"),
        ("content-type", b"application/json"),
        ("headrace_attempt", b"3"),
        ("headrace_reason", b"exhausted: status 500"),
        ("traceparent", b"00-1"),
    ],
)


def test_a_dead_letter_shows_what_happened_to_the_event() -> None:
    """The event itself, the reason, and the notes of the dispatcher are shown separately."""
    letter = of_id("a-1")(RECORD)
    assert letter is not None
    assert {
        "id": "a-1",
        "type": "order\x1b[31m",
        "datacontenttype": "application/json",
    } == letter.attributes
    row = letter.row()
    assert ("2023-11-14T22:13:20Z", "exhausted: status 500", "500", "http://x/", 3) == tuple(
        row[name] for name in ("time", "reason", "code", "destination", "attempts")
    )
    assert (b"oops", b'{"order": 1}') == (letter.answer(), letter.data)
    assert of_id("a-2")(RECORD) is None


def test_a_summary_does_not_hold_the_data() -> None:
    """A list of a thousand large events would be a gigabyte, so only their size is shown."""
    letter = summary(RECORD)
    assert (None, 12) == (letter.data, letter.row()["bytes"])


@pytest.mark.parametrize(
    "headers",
    [(), [("headrace_attempt", b"x"), ("ce_knativeerrordata", b"%")], [("ce_id", b"\xff")]],
)
def test_a_record_of_another_program_is_shown_as_far_as_possible(
    headers: list[tuple[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Any client with write access to the topic may have written it."""
    strange = StoredRecord("g.dead", 0, 0, 0, None, None, headers)
    print_dead_letter(summary(strange), ResultFormat.TABLE)
    print_dead_letters([summary(strange)], ResultFormat.TABLE)
    assert "g.dead/0/0" in capsys.readouterr().out


def test_a_terminal_obeys_nothing_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters of an event are escaped and not sent to the terminal."""
    letter = of_id("a-1")(RECORD)
    assert letter is not None
    print_dead_letters([letter], ResultFormat.TABLE)
    print_dead_letter(letter, ResultFormat.TABLE)
    assert "\x1b" not in capsys.readouterr().out


def test_a_letter_that_its_sink_rejected_is_shown_once_with_the_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The copy with the answer replaces the dead letter in the list. The column exists only when it
    is not empty.
    """
    copy = replace(
        RECORD,
        offset=9,
        headers=delivery_state.write_rejected(
            RECORD.headers, RECORD.origin, "status 422 from http://s/"
        ),
    )
    shown = without_originals([summary(copy), summary(replace(RECORD, offset=8)), summary(RECORD)])
    assert ["g.dead/0/9", "g.dead/0/8"] == [each.place for each in shown]
    print_dead_letters(shown, ResultFormat.TABLE)
    print_dead_letters(shown[1:], ResultFormat.TABLE)
    heading, rejected, *_ = lines = capsys.readouterr().out.splitlines()
    assert heading.endswith("SINK")
    assert rejected.endswith("status 422 from http://s/")
    assert "SINK" not in lines[3]
    print_dead_letter(shown[0], ResultFormat.TABLE)
    assert "Rejected by the sink: status 422 from http://s/\n" in capsys.readouterr().out


def test_programs_get_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Data that is not text is encoded in base64."""
    print_dead_letters([summary(RECORD), summary(RECORD)], ResultFormat.JSON)
    assert ["a-1", "a-1"] == [
        json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()
    ]
    strange = of_id("b")(StoredRecord("g.dead", 0, 0, 0, None, b"\xff", [("ce_id", b"b")]))
    assert strange is not None
    print_dead_letter(strange, ResultFormat.JSON)
    assert "/w==" == json.loads(capsys.readouterr().out)["data_base64"]


def test_topics_without_dead_letters_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Every Trigger has a topic, but only those with dead letters are of interest."""
    print_topics({"a.dead": 0, "b.dead": 2}, ResultFormat.TABLE)
    assert [["EVENTS", "TOPIC"], ["2", "b.dead"]] == [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]
    print_topics({"a.dead": 0}, ResultFormat.TABLE)
    assert ("", "no dead letters; 1 topics would hold them\n") == tuple(capsys.readouterr())


def _run(*arguments: str) -> Result:
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)
    result = CliRunner().invoke(app, ["dead-letters", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("orders", "--topic", "x.dead"), 2, "not both"),
        (("--show", "a"), 2, "where to look"),
        (
            ("orders", "--server", "ftp://x", "--bootstrap-servers", "127.0.0.1:1"),
            2,
            "give an http or https URL",
        ),
        (
            ("orders", "--server", "http://127.0.0.1:1", "--bootstrap-servers", "127.0.0.1:1"),
            1,
            "start a controller",
        ),
    ],
)
def test_what_cannot_be_is_said(arguments: tuple[str, ...], code: int, words: str) -> None:
    """The error is one line on standard error, with the next step."""
    result = _run(*arguments)
    assert (code, "") == (result.exit_code, result.stdout)
    assert words in result.stderr


CHANNEL = """
apiVersion: messaging.knative.dev/v1
kind: Channel
metadata: {name: orders}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: billing}
spec:
  channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: orders}
  subscriber: {uri: "http://sink.example/"}
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("billing", "but a Subscription: `headrace dead-letters subscription/billing -n default`"),
        ("gone", "no Trigger default/gone; `headrace get triggers -A` shows them all"),
        ("channel/orders", "a Channel has no dead letters: they belong to a Trigger or a Sub"),
        ("subscription/gone", "no Subscription default/gone; `headrace get subscriptions -A`"),
    ],
)
def test_a_name_without_a_trigger_leads_to_the_next_command(name: str, message: str) -> None:
    """A Subscription may be what is meant: a Trigger needs no kind."""
    with running_api() as server:
        client = ApiClient(server.url)
        for manifest in read_manifests(CHANNEL.encode(), "here"):
            apply_manifest(client, manifest, "default")
        with pytest.raises(ApiFailure) as refused:
            _topic_of(client, "default", name)
    assert message in str(refused.value)
