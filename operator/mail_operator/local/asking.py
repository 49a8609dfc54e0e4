"""Asks programs of this machine at their sockets."""

import http.client
import json
from collections.abc import Mapping
from typing import Any

from mailpods.directory.endpoints import http_connection, resolve


class Answer(Exception):
    """A program answered with a failure: `status` of HTTP, and what it said."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def ask(endpoint: str, path: str, method: str = "GET", seconds: float = 1) -> bytes:
    """What the program at an endpoint answers. Raises OSError, or Answer where it does not do it."""
    connection = http_connection(resolve(endpoint), seconds)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(repr(error)) from error
    finally:
        connection.close()
    if answer.status != 200:
        raise Answer(answer.status, body.decode("utf-8", "replace").strip())
    return body


def ask_json(endpoint: str, path: str, method: str = "GET", seconds: float = 1) -> Any:
    """The same, decoded. Raises ValueError for what is no JSON."""
    return json.loads(ask(endpoint, path, method, seconds))


def loaded_files(endpoint: str) -> Mapping[str, str] | None:
    """The hash of each file that a program has loaded; None if it does not say."""
    try:
        hashes: Mapping[str, str] = ask_json(endpoint, "/directory")["hashes"]
        return hashes
    except Exception:  # not up yet, or it answers nonsense: whatever it is, it has loaded nothing
        return None
