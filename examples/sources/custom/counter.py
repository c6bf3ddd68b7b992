"""Counts, and posts each number as an event to the URL in K_SINK: any program can be a source."""

import itertools
import json
import os
import time
import urllib.request

OVERRIDES = json.loads(os.environ.get("K_CE_OVERRIDES") or "{}").get("extensions", {})

for number in itertools.count(1):
    headers = {
        "ce-specversion": "1.0",
        "ce-id": f"number-{number}",
        "ce-source": "/examples/numbers",
        "ce-type": "com.example.number",
        "content-type": "application/json",
        **{f"ce-{name}": value for name, value in OVERRIDES.items()},
    }
    body = json.dumps({"number": number}).encode()
    request = urllib.request.Request(os.environ["K_SINK"], body, headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30):  # noqa: S310 - raises if it was not accepted
        print(f"sent {number}", flush=True)
    time.sleep(1)
