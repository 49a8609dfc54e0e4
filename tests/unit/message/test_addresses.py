"""What From and Sender name, and what is in no grammar."""

import time

import pytest

from mailpods.message.addresses import Malformed, mailboxes


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b" info@a.test", ["info@a.test"]),
        (b' "ceo@bank.example" <Anna@A.test>', ["anna@a.test"]),
        (b" (info@a.test) ceo@bank.example", ["ceo@bank.example"]),
        (b" Board: ceo@bank.example, x@y.test;", ["ceo@bank.example", "x@y.test"]),
        (b" undisclosed:;", []),
        (b' "info@a.test"@bank.example', ['"info@a.test"@bank.example']),
        (b' "in.fo"@a.test', ["in.fo@a.test"]),
        (b" <@a.test,@b.test:ceo@bank.example>", ["ceo@bank.example"]),
        (b" a@b.test, J. Public <c@d.test>,", ["a@b.test", "c@d.test"]),
        (b"\r\n ceo@bank.example", ["ceo@bank.example"]),
        (b" a . b @ c . test", ["a.b@c.test"]),
        ("Jörg <jörg@bücher.example>".encode(), ["jörg@xn--bcher-kva.example"]),
        ("info@а.test".encode(), ["info@xn--80a.test"]),  # a Cyrillic letter  # noqa: RUF001
        (b' "a\\"b" <x@[192.0.2.1]>', ["x@[192.0.2.1]"]),
    ],
)
def test_the_addresses_of_a_field(value: bytes, found: list[str]) -> None:
    assert mailboxes(value) == found


@pytest.mark.parametrize(
    "value",
    [
        b" info",
        b" a@b.test <c@d.test>",
        b" a@b@c.test",
        b" <a@b.test> <c@d.test>",
        b" <a@b.test",
        b" a@b.test>",
        b" (a@b.test",
        b" Board: a@b.test",
        b" a@b.test;",
        b" info@a..test",
        b" \xff@a.test",
        b" a@b.test c@d.test",
    ],
)
def test_what_is_in_no_grammar_names_nobody(value: bytes) -> None:
    with pytest.raises(Malformed):
        mailboxes(value)


def test_comments_nest_as_deep_as_anybody_likes_and_take_no_time() -> None:
    began = time.monotonic()
    deep = b"(" * 100_000 + b"x" + b")" * 100_000
    assert mailboxes(deep + b" info@a.test") == ["info@a.test"]
    assert time.monotonic() - began < 2
