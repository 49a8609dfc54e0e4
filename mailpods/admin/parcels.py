"""How a message goes from one program of an installation to another: by POST, with the installation's key."""

import http.client
import json
from collections.abc import Mapping
from typing import Any

from mailpods.directory.endpoints import resolve

PATH = "/queue/adopt"
MAX_BODY = 192 << 20  # bytes; the largest message (R-003-36) with room for its record
_ANSWER_SECONDS = 30.0


def give(peer: str, key: str, record: Mapping[str, Any], body: bytes) -> None:
    """Have the program at `peer` (host:port) take a message; on return it is on disk there, synced.

    Raises OSError, ValueError and http.client.HTTPException where it does not take it.
    """
    host, port = resolve(peer)
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_SECONDS)
    try:
        data = json.dumps(record).encode() + b"\n" + body
        connection.request("POST", PATH, data, {"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace").strip()
        if answer.status != 200:
            raise ConnectionError(f"{answer.status} {text}")
    finally:
        connection.close()


def parcel(line: bytes) -> dict[str, Any]:
    """The record of a message, as the other side gets it. Raises ValueError."""
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found
