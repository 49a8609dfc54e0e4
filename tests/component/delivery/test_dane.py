"""DANE against a zone that is really signed, a resolver that really validates, and SMTP with STARTTLS."""

import asyncio
import datetime
import hashlib
import shutil
import ssl
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar, cast

import pytest
import uvloop
from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mail_operator.engine.secrets import KeyPair, make_ca, make_certificate

from mailpods.delivery.client.replies import Disconnected, TlsFailed, TlsMissing
from mailpods.delivery.client.tls import TlsSession
from mailpods.delivery.destinations.base import Network
from mailpods.delivery.destinations.dane import holds
from mailpods.delivery.destinations.mx import site_of
from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import Server
from mailpods.dns.records import Tlsa
from mailpods.dns.resolver import Resolver
from tests.support.signed import signed_zones

pytestmark = pytest.mark.skipif(
    not (shutil.which("knotd") and shutil.which("unbound")), reason="no DNSSEC: ./run test installs it"
)
NOW = datetime.datetime.now(datetime.UTC)
T = TypeVar("T")
TLS, PLAIN = "127.0.9.61", "127.0.9.62"


class READER:
    """A directory with nothing but a name."""

    server = Server("mail.a.test")


class _Take:
    async def handle_DATA(self, *_: Any) -> str:
        return "250 2.0.0 taken"


def der(pem: bytes) -> bytes:
    """The first certificate of a file."""
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def public_key(pem: bytes) -> bytes:
    """Of a certificate."""
    key = x509.load_pem_x509_certificate(pem).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def tlsa(host: str, record: str) -> str:
    """A line of a zone."""
    return f"_25._tcp.{host} TLSA {record}"


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    """Whom nobody trusts, unless a zone says so."""
    return make_ca("tests", NOW)


@pytest.fixture(scope="module")
def certificate(authority: KeyPair) -> KeyPair:
    """What the server with TLS shows, under the names that it has in these zones."""
    return make_certificate(authority, ["issued.sink.test"], NOW)


@pytest.fixture(scope="module")
def resolver(
    tmp_path_factory: pytest.TempPathFactory, authority: KeyPair, certificate: KeyPair
) -> Iterator[str]:
    """Where DNS answers, while the mail servers of its zones run. Each domain has one, of its first label."""
    folder = tmp_path_factory.mktemp("dane")
    own, key = der(certificate.certificate), public_key(certificate.certificate)
    good = hashlib.sha256(key).hexdigest()
    wrong = hashlib.sha256(b"another").hexdigest()
    hosts = {
        "own": (TLS, [f"3 1 1 {good}"]),
        "whole": (TLS, [f"3 0 0 {own.hex()}"]),
        "rolling": (TLS, [f"3 1 1 {wrong}", f"3 0 2 {hashlib.sha512(own).hexdigest()}"]),
        "wrong": (TLS, [f"3 1 1 {wrong}"]),
        "issued": (TLS, [f"2 0 1 {hashlib.sha256(der(authority.certificate)).hexdigest()}"]),
        "other": (TLS, [f"2 0 1 {hashlib.sha256(der(authority.certificate)).hexdigest()}"]),
        "anchor": (TLS, [f"2 1 1 {wrong}"]),
        "unusable": (TLS, [f"1 1 1 {wrong}"]),
        "none": (TLS, []),
        "plain": (PLAIN, [f"3 1 1 {good}"]),
        "plain-unusable": (PLAIN, [f"1 1 1 {wrong}"]),
        "plain-none": (PLAIN, []),
    }
    records = []
    for name, (address, texts) in hosts.items():
        records += [f"{name} A {address}", f"for-{name} MX 10 {name}", *(tlsa(name, text) for text in texts)]
    zones = {
        "sink.test": records,
        "unsigned.test": [f"mx A {TLS}", "@ MX 10 mx", tlsa("mx", f"3 1 1 {wrong}")],
        "forged.test": [f"mx A {TLS}", tlsa("mx", f"3 1 1 {good}")],
        "halves.test": ["@ MX 10 mx.forged.test."],
    }
    for end, data in (("crt", certificate.certificate + authority.certificate), ("key", certificate.key)):
        (folder / f"mx.{end}").write_bytes(data)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "mx.crt", folder / "mx.key")
    servers = [
        Controller(_Take(), hostname=TLS, port=25, tls_context=context),
        Controller(_Take(), hostname=PLAIN, port=25),
    ]
    with signed_zones(folder / "dns", zones, ["unsigned.test"], ["forged.test"]) as answering:
        for each in servers:
            each.start()
        yield answering
        for each in servers:
            each.stop()


def run(work: Coroutine[Any, Any, T]) -> T:
    """On the loop of the product, whose TLS is its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _connected(domain: str, resolver: str) -> tuple[bool, tuple[TlsSession, ...]]:
    """Whether the server of a domain was reached by TLS, and what reports say of it."""
    dns = Resolver([resolver])
    reader = cast(DirectoryReader, READER)
    network = Network(reader, lambda: dns)
    connection = await (await site_of(domain, network)).connect(network)
    encrypted = connection.is_encrypted
    await connection.quit()
    return encrypted, connection.sessions


@pytest.mark.parametrize(
    ("name", "encrypted", "policy"),
    [
        ("own", True, "tlsa"),
        ("whole", True, "tlsa"),
        ("rolling", True, "tlsa"),
        ("issued", True, "tlsa"),
        ("unusable", True, "tlsa"),  # TLS is a must all the same (RFC 7672 §2.2)
        ("none", True, "no-policy-found"),
    ],
)
def test_a_server_that_its_zone_names_is_talked_to(
    resolver: str, name: str, encrypted: bool, policy: str
) -> None:
    found = run(_connected(f"for-{name}.sink.test", resolver))
    assert found == (encrypted, (TlsSession(policy, f"{name}.sink.test", ""),))  # type: ignore[arg-type]


def test_without_tlsa_a_server_without_tls_gets_mail_in_clear(resolver: str) -> None:
    session = TlsSession("no-policy-found", "plain-none.sink.test", "starttls-not-supported")
    assert run(_connected("for-plain-none.sink.test", resolver)) == (False, (session,))


@pytest.mark.parametrize(
    ("name", "result", "kind"),
    [
        ("wrong", "validation-failure", TlsFailed),
        ("other", "validation-failure", TlsFailed),  # of the right authority, for another name
        ("anchor", "validation-failure", TlsFailed),
        ("plain", "starttls-not-supported", TlsMissing),
        ("plain-unusable", "starttls-not-supported", TlsMissing),
    ],
)
def test_another_server_gets_nothing(
    resolver: str, name: str, result: str, kind: type[TlsFailed] | type[TlsMissing]
) -> None:
    with pytest.raises((TlsFailed, TlsMissing)) as raised:
        run(_connected(f"for-{name}.sink.test", resolver))
    assert type(raised.value) is kind
    assert raised.value.sessions == (TlsSession("tlsa", f"{name}.sink.test", result),)


def test_what_is_not_signed_binds_nobody(resolver: str) -> None:
    session = TlsSession("no-policy-found", "mx.unsigned.test", "")
    assert run(_connected("unsigned.test", resolver)) == (True, (session,))


def test_mail_waits_while_signatures_are_wrong(resolver: str) -> None:
    with pytest.raises(Disconnected, match=r"DNS gives no answer|no mail server has an address"):
        run(_connected("halves.test", resolver))


def test_records_of_no_use_prove_nothing(certificate: KeyPair) -> None:
    own = der(certificate.certificate)
    assert not holds([Tlsa(3, 0, 1, own)], [own], "issued.sink.test")
    assert not holds([Tlsa(2, 0, 0, b"nonsense")], [own], "issued.sink.test")
    assert not holds([Tlsa(3, 1, 0, b"")], [b"nonsense"], "issued.sink.test")
    assert holds([Tlsa(3, 0, 0, own)], [own], "whatever")
    assert [Tlsa(*each, b"").is_usable for each in ((0, 0, 1), (3, 2, 1), (3, 1, 9), (2, 0, 0))] == [
        False,
        False,
        False,
        True,
    ]
