"""The admin port answers probes, and says what it knows when asked for something it does not."""

import json
import socket
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import Request as Asked
from urllib.request import urlopen

import pytest

from mailpods.admin.server import AdminServer, Request, Response


def broken(request: Request) -> Response:
    raise ValueError("worn out")


@pytest.fixture
def url() -> Iterator[str]:
    routes = {
        "GET /livez": lambda request: Response.text("ok"),
        "GET /queue": lambda request: Response.json(dict(request.query)),
        "GET /broken": broken,
        "POST /told": lambda request: Response.json(request.body.decode()),
    }
    server = AdminServer("127.0.0.1", 0, routes)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def test_pages_answer_with_text_and_json(url: str) -> None:
    assert urlopen(f"{url}/livez").read() == b"ok\n"
    assert json.load(urlopen(f"{url}/queue?tenant=a")) == {"tenant": "a"}


@pytest.mark.parametrize(
    ("path", "status", "text"), [("/x", 404, "GET /livez"), ("/broken", 500, "worn out")]
)
def test_an_unknown_or_broken_page_says_so_and_the_port_stays_up(
    url: str, path: str, status: int, text: str
) -> None:
    with pytest.raises(HTTPError) as error:
        urlopen(url + path)
    assert error.value.code == status and text in error.value.read().decode()
    assert urlopen(f"{url}/livez").status == 200


def test_a_body_may_come_in_chunks(url: str) -> None:
    """As the API server's proxy passes on what kubectl posts."""
    for chunks in ([], [b"one "], [b"one ", b"two"]):
        answer = urlopen(Asked(f"{url}/told", data=iter(chunks), method="POST"))
        assert json.load(answer) == b"".join(chunks).decode()


@pytest.mark.parametrize(
    ("chunks", "status"), [(b"100001\r\n", b"413"), (b"-5\r\n", b"413"), (b"x\r\n", b"500"), (b"", b"500")]
)
def test_chunks_that_are_too_large_or_none_are_refused(url: str, chunks: bytes, status: bytes) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(b"POST /told HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100).split()[1] == status
    assert urlopen(f"{url}/livez").status == 200
