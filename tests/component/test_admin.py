"""The admin port answers probes, and says what it knows when asked for something it does not."""

import json
from collections.abc import Iterator
from urllib.error import HTTPError
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
