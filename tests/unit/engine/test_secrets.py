"""Hashes, passwords and certificates that the installation makes by itself."""

import datetime

import argon2
from cryptography import x509
from mail_operator.engine.secrets import (
    PasswordHashes,
    generate_password,
    hash_password,
    make_ca,
    make_certificate,
    needs_renewal,
)

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def test_a_password_is_hashed_once_and_again_only_when_it_changes() -> None:
    hashes = PasswordHashes(b"key", {})
    first = hashes.add("a/info", "Correct-Horse")
    assert argon2.PasswordHasher().verify(first.removeprefix("{ARGON2ID}"), "Correct-Horse")

    restarted = PasswordHashes(b"key", hashes.known)
    assert restarted.get("a/info", "Correct-Horse") == first
    assert restarted.get("a/info", "other") is None
    assert restarted.get("a/other", "Correct-Horse") is None
    assert "Correct-Horse" not in str(restarted.known)


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
