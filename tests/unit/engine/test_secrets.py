"""Hashes, passwords and certificates that the installation makes by itself."""

import datetime

import argon2
import pytest
from cryptography import x509
from mail_operator.compiler.snapshot import PasswordHash, SecretProblem
from mail_operator.engine.secrets import (
    generate_password,
    hash_password,
    make_ca,
    make_certificate,
    needs_renewal,
    password_in,
)

from tests.support.pairs import common_name_only

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def test_a_password_has_one_hash_in_each_version_of_its_secret() -> None:
    first = hash_password("Correct-Horse", "a/info/1")
    assert argon2.PasswordHasher().verify(first.removeprefix("{ARGON2ID}"), "Correct-Horse")
    assert hash_password("Correct-Horse", "a/info/1") == first  # two operators at once come to the same
    assert hash_password("Correct-Horse", "a/info/2") != first


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"password": b"a\tb"}, "NotTypeable"),
        ({"password": "a\u202eb".encode()}, "NotTypeable"),
        ({"password": "a\ue000b".encode()}, "NotTypeable"),
        ({"password": "a\u2028b".encode()}, "NotTypeable"),
        ({"password": b"secret\n"}, "NotTypeable"),
        ({"hash": b"{PLAIN}a\tb"}, "NotTypeable"),
        ({"password": b"x" * 1001}, "TooLong"),
        ({"hash": b"{PLAIN}" + b"x" * 994}, "TooLong"),
        ({"password": b"\xff"}, "NotText"),
        ({"password": b""}, "Empty"),
        ({"hash": b"{NONE}x"}, "HashUnknown"),
        ({}, "KeyMissing"),
    ],
)
def test_a_password_that_nobody_can_use_is_refused_with_a_reason(
    values: dict[str, bytes], reason: str
) -> None:
    found = password_in("a/info", values)
    assert isinstance(found, SecretProblem) and found.reason == reason
    assert "a/info" in found.message and "secret" not in found.message


@pytest.mark.parametrize(
    "password", ["x" * 1000, "two words", "päß wört", "\u0645\u06cc\u200c\u062e", "\U0001f600"]
)
def test_a_password_that_somebody_can_type_is_taken_as_it_is(password: str) -> None:
    assert password_in("a/info", {"password": password.encode()}) == password
    assert password_in("a/info", {"hash": b" {PLAIN}x\n"}) == PasswordHash("{PLAIN}x")


def test_one_origin_gives_one_hash_and_others_their_own() -> None:
    first = hash_password("secret", "t/info-pw/uid/1")
    assert first == hash_password("secret", "t/info-pw/uid/1")
    others = {hash_password("secret", "t/info-pw/uid/2"), hash_password("secret"), hash_password("secret")}
    assert len(others - {first}) == 3
    assert argon2.PasswordHasher().verify(first.removeprefix("{ARGON2ID}"), "secret")


def test_generated_passwords_differ_and_need_no_quoting() -> None:
    passwords = {generate_password() for _ in range(100)}
    assert len(passwords) == 100 and all(p.isalnum() and len(p) == 24 for p in passwords)


def test_a_certificate_verifies_against_its_ca_until_it_should_be_renewed() -> None:
    ca = make_ca("Mailpods main", NOW)
    pair = make_certificate(ca, ["mx.a.test", "127.0.0.1"], NOW)
    leaf, root = x509.load_pem_x509_certificates(pair.certificate)
    leaf.verify_directly_issued_by(root)

    assert not needs_renewal(pair.certificate, ["mx.a.test"], NOW)
    assert needs_renewal(pair.certificate, ["mx.a.test", "imap.a.test"], NOW)
    assert needs_renewal(pair.certificate, ["mx.a.test"], NOW + datetime.timedelta(days=61))


@pytest.mark.parametrize("certificate", [b"hello", common_name_only("mx.a.test")["tls.crt"]])
def test_a_certificate_without_names_or_none_at_all_is_made_anew(certificate: bytes) -> None:
    assert needs_renewal(certificate, ["mx.a.test"], NOW)
