"""What an event holds, made fit for a terminal: it may come from anybody, and a terminal obeys some characters."""

import json

DATA_CHARACTERS_MAX = 2_000


def printable(text: str, characters_max: int) -> str:
    """The text with control characters made visible, cut where it is longer."""
    cut = text[:characters_max]
    shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in cut)
    return shown + (f"… ({len(text)} characters)" if len(text) > characters_max else "")


def printable_data(data: bytes, media_type: str, characters_max: int = DATA_CHARACTERS_MAX) -> str:
    """The data of an event: JSON on one line, text as it is, of anything else the size."""
    try:
        if "json" in media_type:
            return printable(json.dumps(json.loads(data), ensure_ascii=False), characters_max)
        return printable(data.decode("utf-8"), characters_max)
    except (ValueError, RecursionError):
        return f"{len(data)} bytes of {printable(media_type, 100) or 'data'}"
