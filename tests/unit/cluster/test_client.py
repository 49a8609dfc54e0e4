"""What the API server asks of its clients."""

import asyncio
import datetime
import random
import time
from email.utils import format_datetime

import kopf
import pytest
from aiohttp import web
from mail_operator.cluster import client
from mail_operator.cluster.client import ApiClient, ApiError, retry_after


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("7") == 7
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
    assert 25 < retry_after(format_datetime(soon, usegmt=True)) <= 30
    assert retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0


def test_nonsense_is_no_wish() -> None:
    assert [retry_after(text) for text in ("", "soon", "-5", "nan", "inf")] == [0] * 5


async def _asked(method: str, *answers: web.Response) -> tuple[int, int, str]:
    """How often a server that answers so was asked, how often for new credentials, and what came of it."""
    left, logins = list(answers), 0

    async def answer(request: web.Request) -> web.Response:
        return left.pop(0)

    def login() -> kopf.ConnectionInfo:
        nonlocal logins
        logins += 1
        return kopf.ConnectionInfo(server=f"http://127.0.0.1:{runner.addresses[0][1]}", token=str(logins))

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made = ApiClient(login, "test")
    await made.open()
    try:
        await (made.delete("/x") if method == "DELETE" else made.get("/x"))
        said = ""
    except ApiError as error:
        said = str(error.code)
    finally:
        await made.close()
        await runner.cleanup()
    return len(answers) - len(left), logins, said


def status(code: int, **headers: str) -> web.Response:
    """A Status."""
    return web.json_response({"reason": "So", "message": "it is"}, status=code, headers=headers)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits a tenth of what was wanted, and by itself hardly."""
    monkeypatch.setattr(client, "BACKOFF_SECONDS", 0.0001)
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.1)


@pytest.mark.usefixtures("impatient")
def test_what_may_pass_is_asked_again_and_what_is_final_is_not() -> None:
    found = asyncio.run(_asked("GET", status(503), status(429), status(500), status(200)))
    assert found == (4, 1, "")
    for code in (400, 403, 404, 409, 410, 422):
        assert asyncio.run(_asked("GET", status(code), status(200))) == (1, 1, str(code))
    always = [status(503) for _ in range(client.TRIES)]
    assert asyncio.run(_asked("GET", *always)) == (client.TRIES, 1, "503")


@pytest.mark.usefixtures("impatient")
def test_credentials_that_ended_are_renewed() -> None:
    assert asyncio.run(_asked("GET", status(401), status(200))) == (2, 2, "")


@pytest.mark.usefixtures("impatient")
def test_what_is_gone_already_is_deleted() -> None:
    assert asyncio.run(_asked("DELETE", status(404))) == (1, 1, "")
    assert asyncio.run(_asked("DELETE", status(403))) == (1, 1, "403")


@pytest.mark.usefixtures("impatient")
def test_a_server_that_asks_for_time_gets_it() -> None:
    began = time.monotonic()
    assert asyncio.run(_asked("GET", status(429, **{"Retry-After": "3"}), status(200)))[0] == 2
    assert time.monotonic() - began >= 0.3
