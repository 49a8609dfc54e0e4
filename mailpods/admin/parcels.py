"""How a message goes from one program of an installation to another: by POST, with the installation's key."""

import json
from collections.abc import Mapping
from typing import Any

from mailpods.admin import peers

PATH = "/queue/adopt"
MAX_BODY = 192 << 20  # bytes; the largest message (R-003-36) with room for its record
_ANSWER_SECONDS = 30.0


def give(peer: str, key: str, record: Mapping[str, Any], body: bytes) -> None:
    """Have the program at `peer` (host:port) take a message; on return it is on disk there, synced.

    Raises one of peers.Failures where it does not take it.
    """
    peers.ask(peer, "POST", PATH, key, json.dumps(record).encode() + b"\n" + body, _ANSWER_SECONDS)
