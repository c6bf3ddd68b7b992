"""Sends an order every second to a Broker: `python producer.py URL`. Needs the standard library
only.
"""

import http.client
import json
import random
import sys
import time
import uuid
from urllib.parse import urlsplit

INTERVAL_SECONDS = 1.0
TIMEOUT_SECONDS = 10.0


def send(url: str, amount: int) -> str:
    """Send one order as a CloudEvent in binary mode. Return what happened."""
    parts = urlsplit(url)
    headers = {
        "ce-specversion": "1.0",
        "ce-id": str(uuid.uuid4()),
        "ce-source": "/demo/producer",
        "ce-type": "order.created",
        "ce-amount": str(amount),
        "content-type": "application/json",
    }
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port or 80, timeout=TIMEOUT_SECONDS
    )
    try:
        connection.request("POST", parts.path, json.dumps({"amount": amount}), headers)
        response = connection.getresponse()
        answer = response.read().decode("utf-8", errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"not sent: {error}"
    finally:
        connection.close()
    return "accepted" if response.status == 202 else f"{response.status} {answer}"


def main() -> None:
    """Send until the process is ended."""
    while True:
        amount = random.randint(1, 1000)
        print(f"order of {amount}: {send(sys.argv[1], amount)}", flush=True)
        time.sleep(INTERVAL_SECONDS)


if __name__ == "__main__":
    main()
