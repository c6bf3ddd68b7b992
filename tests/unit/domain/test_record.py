"""Records that were read."""

from dataclasses import fields

from headrace.domain.record import StoredRecord


def test_a_copy_has_every_field() -> None:
    record = StoredRecord(
        "t", 1, 2, 3, b"k", b"v", [("a", b"b")], "note", 4, True, {"type": "x"}, b"ce-type: x\r\n"
    )
    defaults = StoredRecord("", 0, 0, 0, None, None, ())
    assert not [
        each.name
        for each in fields(record)
        if getattr(record, each.name) == getattr(defaults, each.name)
    ]
    copied = record.copy()
    assert copied == record
    assert copied is not record
