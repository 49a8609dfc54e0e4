"""MTA-STS against a real DNS server, HTTPS and SMTP with STARTTLS: what a domain promises is held to."""

import asyncio
import datetime
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from aiosmtpd.controller import Controller
from mail_operator.engine.secrets import KeyPair, make_ca, make_certificate

from mailpods.delivery.client import tls
from mailpods.delivery.client.replies import Disconnected, TlsMissing
from mailpods.delivery.client.tls import TlsSession
from mailpods.delivery.destinations import sts
from mailpods.delivery.destinations.base import Network
from mailpods.delivery.destinations.mx import site_of
from mailpods.delivery.destinations.sts import Policies, Policy, parse
from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import Server
from mailpods.dns.resolver import Resolver
from tests.support.world import world

HTTPS, GOOD, PLAIN, OTHER = "127.0.9.41", "127.0.9.42", "127.0.9.43", "127.0.9.44"
ZONES = (
    "txt-record=_mta-sts.sink.test,v=STSv1; id=20261101;",
    f"host-record=mta-sts.sink.test,{HTTPS}",
    "mx-host=sink.test,mx.sink.test,10",
    "mx-host=sink.test,plain.sink.test,5",
    "mx-host=sink.test,mx.evil.test,1",  # whom the policy does not name
    f"host-record=mx.sink.test,{GOOD}",
    f"host-record=plain.sink.test,{PLAIN}",
    f"host-record=mx.evil.test,{OTHER}",
    "mx-host=free.test,plain.sink.test,5",
    *(
        record
        for domain, host in (("good.test", "mx.sink.test"), ("wrong.test", "alias.sink.test"))
        for record in (
            f"txt-record=_mta-sts.{domain},v=STSv1; id=1;",
            f"host-record=mta-sts.{domain},{HTTPS}",
            f"mx-host={domain},{host},10",
        )
    ),
    f"host-record=alias.sink.test,{GOOD}",
)
DOMAINS = ("sink.test", "good.test", "wrong.test")
ENFORCE = "version: STSv1\r\nmode: enforce\r\nmx: mx.sink.test\r\nmx: plain.sink.test\r\nmax_age: 86400\r\n"


@dataclass
class Site:
    """The HTTPS server of mta-sts.sink.test."""

    text: str = ENFORCE
    status: int = 200
    asked: int = 0
    folder: Path = field(default_factory=Path)


class READER:
    """A directory with nothing but a name."""

    server = Server("mail.a.test")


@contextmanager
def _https(site: Site, context: ssl.SSLContext) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked += 1
            data = site.text.encode()
            self.send_response(site.status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((HTTPS, 443), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield
    server.shutdown()
    server.server_close()


def _context(folder: Path, authority: KeyPair, *names: str) -> ssl.SSLContext:
    name = names[0]
    made = make_certificate(authority, names, datetime.datetime.now(datetime.UTC))
    for end, data in (("crt", made.certificate), ("key", made.key)):
        (folder / f"{name}.{end}").write_bytes(data)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


class _Take:
    async def handle_DATA(self, *_: Any) -> str:
        return "250 2.0.0 taken"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, str]]:
    """The site, and where DNS answers. Only the tests' own authority is trusted."""
    authority = make_ca("tests", datetime.datetime.now(datetime.UTC))
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    tls.context.cache_clear()
    site = Site(folder=tmp_path)
    good = Controller(
        _Take(), hostname=GOOD, port=25, tls_context=_context(tmp_path, authority, "mx.sink.test")
    )
    others = [Controller(_Take(), hostname=address, port=25) for address in (PLAIN, OTHER)]
    with (
        world("127.0.0", *ZONES, sinks=()) as outside,
        _https(site, _context(tmp_path, authority, *(f"mta-sts.{each}" for each in DOMAINS))),
    ):
        for each in (good, *others):
            each.start()
        yield site, outside.resolver
        for each in (good, *others):
            each.stop()
    tls.context.cache_clear()


async def _connected(domain: str, resolver: str, policies: Policies) -> tuple[str, bool]:
    """Which server was reached, and whether by TLS."""
    address, encrypted, _ = await _told(domain, resolver, policies)
    return address, encrypted


async def _told(domain: str, resolver: str, policies: Policies) -> tuple[str, bool, tuple[TlsSession, ...]]:
    """The same, and what reports say."""
    dns = Resolver([resolver])
    reader = cast(DirectoryReader, READER)
    network = Network(reader, lambda: dns, policies=policies)
    connection = await (await site_of(domain, network)).connect(network)
    assert connection.transport is not None
    address = connection.transport.get_extra_info("peername")[0]
    encrypted = connection.is_encrypted
    await connection.quit()
    return address, encrypted, connection.sessions


def _policies(site: Site, resolver: str) -> Policies:
    return Policies(site.folder, lambda: Resolver([resolver]))


def test_mail_goes_only_where_the_promise_is_kept(there: tuple[Site, str]) -> None:
    site, resolver = there
    policies = _policies(site, resolver)
    # Not to the server that is not named, nor to the one without TLS, though both are better ones.
    assert asyncio.run(_connected("sink.test", resolver, policies)) == (GOOD, True)
    assert asyncio.run(_connected("free.test", resolver, policies)) == (PLAIN, False)


def test_where_no_server_keeps_it_mail_waits(there: tuple[Site, str]) -> None:
    site, resolver = there
    site.text = ENFORCE.replace("mx: mx.sink.test\r\n", "")
    with pytest.raises(TlsMissing, match="offers no STARTTLS"):
        asyncio.run(_connected("sink.test", resolver, _policies(site, resolver)))
    site.text = "version: STSv1\nmode: enforce\nmx: *.else.test\nmax_age: 86400\n"
    site.folder = site.folder / "fresh"
    site.folder.mkdir()
    with pytest.raises(Disconnected, match="MTA-STS"):
        asyncio.run(_connected("sink.test", resolver, _policies(site, resolver)))


def test_a_policy_is_kept_on_disk_and_holds_while_its_server_is_down(
    there: tuple[Site, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, resolver = there
    assert asyncio.run(_connected("sink.test", resolver, _policies(site, resolver))) == (GOOD, True)
    assert asyncio.run(_connected("sink.test", resolver, _policies(site, resolver))) == (GOOD, True)
    assert site.asked == 1  # the same id: not fetched again
    site.status = 500

    async def another(_: Any, __: str) -> str:
        return "another"

    monkeypatch.setattr(Policies, "_identity", another)
    assert asyncio.run(_connected("sink.test", resolver, _policies(site, resolver))) == (GOOD, True)
    assert site.asked == 2


TESTING = ENFORCE.replace("enforce", "testing")


@pytest.mark.parametrize(
    ("text", "address", "encrypted", "session"),
    [
        (TESTING, OTHER, False, ("sts", "mx.evil.test", "validation-failure")),
        (
            TESTING.replace("mx.sink.test", "mx.evil.test"),
            OTHER,
            False,
            ("sts", "mx.evil.test", "starttls-not-supported"),
        ),
        (
            "version: STSv1\nmode: none\nmax_age: 1\n",
            OTHER,
            False,
            ("no-policy-found", "mx.evil.test", "starttls-not-supported"),
        ),
    ],
)
def test_testing_and_none_bind_nobody_and_what_would_fail_is_told(
    there: tuple[Site, str], text: str, address: str, encrypted: bool, session: tuple[str, str, str]
) -> None:
    site, resolver = there
    site.text = text
    found = asyncio.run(_told("sink.test", resolver, _policies(site, resolver)))
    assert found == (address, encrypted, (TlsSession(*session),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("domain", "encrypted", "result"),
    [("good.test", True, ""), ("wrong.test", True, "certificate-host-mismatch")],
)
def test_a_promise_that_is_tested_is_kept_where_it_can_be(
    there: tuple[Site, str], domain: str, encrypted: bool, result: str
) -> None:
    """One of the names is in the server's certificate."""
    site, resolver = there
    site.text = TESTING.replace("mx: mx.sink.test", "mx: *.sink.test")
    found = asyncio.run(_told(domain, resolver, _policies(site, resolver)))
    name = "mx.sink.test" if domain == "good.test" else "alias.sink.test"
    assert found == (GOOD, encrypted, (TlsSession("sts", name, result),))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mode: enforce\nmx: a\nmax_age: 1\n",
        "version: STSv1\nmode: enforce\nmax_age: 1\n",
        "version: STSv2\nmx: a",
    ],
)
def test_what_is_no_policy_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_a_star_stands_for_one_label() -> None:
    policy = Policy("enforce", ("*.sink.test", "mx.a.test"), 1)
    assert policy.allows("MX.sink.test.") and policy.allows("mx.a.test")
    assert (
        not policy.allows("a.b.sink.test")
        and not policy.allows("sink.test")
        and not policy.allows("x.a.test")
    )
    assert sts.parse(ENFORCE).max_age == 86400
