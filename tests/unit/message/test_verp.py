"""Marks of links and of senders: for one address of one domain, and made by nobody else."""

import pytest

from mailpods.message.verp import Verp, read_token, token


@pytest.mark.parametrize("address", ["x@sink.test", "é@sink.test", "a+b=c@sink.test"])
def test_a_token_names_list_and_address(address: str) -> None:
    assert read_token("key", token("key", "A.test", address)) == ("a.test", address)


def test_other_tokens_are_none_of_ours() -> None:
    mark = token("key", "a.test", "x@sink.test")
    for wrong in (mark[:-1], mark + "A", "A" + mark[1:], "", "%%%", token("other", "a.test", "x@sink.test")):
        assert read_token("key", wrong) is None


def test_a_mailing_s_sender_names_its_recipient_and_remains_a_subaddress() -> None:
    marked = Verp("key").mark("news@a.test", "User.Name+tag=x@Far.test")
    assert marked.startswith("news+v=") and marked.endswith("=user.name+tag=x=far.test@a.test")
    for came in (marked, marked.upper()):  # mailers on the way may change the case
        assert Verp("key").read(came) == ("a.test", "user.name+tag=x@far.test")
    twice = Verp("key").mark("news+spring@a.test", "user@far.test")
    assert Verp("key").read(twice) == ("a.test", "user@far.test")


def test_a_sender_that_would_be_too_long_stays_as_it_is() -> None:
    assert Verp("key").mark("news@a.test", f"{'x' * 50}@far.test") == "news@a.test"


def test_nobody_else_makes_a_mark() -> None:
    marked = Verp("key").mark("news@a.test", "user@far.test")
    assert Verp("other").read(marked) is None
    for wrong in (
        marked.replace("user", "boss"),
        marked.replace("@a.test", "@b.test"),
        marked.replace("far.test", "far2.test"),
        "news@a.test",
        "news+v=@a.test",
        "news+v=abc@a.test",
        "news+v==@a.test",
        "",
    ):
        assert Verp("key").read(wrong) is None
