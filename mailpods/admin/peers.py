"""How programs of an installation ask each other: over HTTP, with the installation's key."""

import http.client

from mailpods.directory.endpoints import http_connection, resolve

Failures = (OSError, http.client.HTTPException, ValueError)  # whatever becomes of a question


class Refused(ConnectionError):
    """The program got the question, and does not do what it asks."""


def ask(peer: str, method: str, path: str, key: str | None, data: bytes | None, seconds: float) -> bytes:
    """What the program at `peer` (host:port) answers. Raises one of Failures; Refused where it refuses."""
    connection = http_connection(resolve(peer), seconds)
    try:
        connection.request(method, path, data, {"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise Refused(f"{answer.status} {text.decode('utf-8', 'replace').strip()}")
        return text
    finally:
        connection.close()
