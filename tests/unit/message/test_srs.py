"""Senders of forwards: rewritten so that bounces find back, and nobody else can have mail sent on by them."""

import pytest

from mailpods.message.srs import VALID_DAYS, Srs
from mailpods.smtp.grammar import parse

NOW = 1_800_000_000.0
DAY = 86400.0
OURS = Srs("key")


@pytest.mark.parametrize(
    "sender",
    [
        *("x@sender.test", "a=b=c@sender.test", "x+y@sub.sender.test", "é@sender.test"),
        *("John.Smith@sender.test", "bounce-AbCdEfGhIjKlZ@s.test", "éX@sender.test", "x@[192.0.2.1]"),
        *('"a b"@sender.test', r'"a\"B\\"@sender.test', '"a@b"@sender.test', "srs0x@sender.test"),
    ],
)
def test_a_bounce_finds_back(sender: str) -> None:
    rewritten = OURS.forward(sender, "a.test", NOW)
    local, _, domain = rewritten.rpartition("@")
    assert domain == "a.test" and local.strip('"').startswith("SRS0=")
    assert parse("FROM:", f"FROM:<{rewritten}>").address == rewritten
    assert OURS.reverse(local.lower(), NOW + 3 * DAY) == sender


def test_a_forward_of_a_forward_goes_back_to_the_first_forwarder() -> None:
    first, second = Srs("first").forward("x@sender.test", "b.test", NOW), OURS
    third = second.forward(first, "a.test", NOW)
    assert third.startswith("SRS1=") and len(third) < 120
    back = second.reverse(third.rpartition("@")[0], NOW)
    assert back == first
    # And what came as SRS1 keeps its first forwarder, instead of growing.
    fourth = Srs("fourth").forward(third, "c.test", NOW)
    assert Srs("fourth").reverse(fourth.rpartition("@")[0], NOW) == first


@pytest.mark.parametrize("host", ["sender.test", "a-long-name.of-a-provider.of-newsletters.test"])
@pytest.mark.parametrize(
    "filling", ["x", "X", "é", "x.X", '"x y"', "SRS0=abcd=ab=s.test=", "SRS1=ab=s.test=="]
)
def test_every_return_path_is_one_that_servers_take(host: str, filling: str) -> None:
    by_postmaster = 0
    for length in range(1, 65):
        text = filling.strip('"')
        text += text[-1] * length if text[-1] != "=" else "x" * length
        local = f'"{text}"' if filling.startswith('"') else text
        if len(local.encode()) > 64:
            break
        rewritten = OURS.forward(f"{local}@{host}", "a.test", NOW)
        parse("FROM:", f"FROM:<{rewritten}>")  # raises of what is invalid
        if rewritten == "postmaster@a.test":
            by_postmaster += 1
        else:
            assert OURS.reverse(rewritten.rpartition("@")[0].lower(), NOW) is not None
    assert by_postmaster


def test_what_is_forged_old_or_broken_is_none_of_ours() -> None:
    local = OURS.forward("x@sender.test", "a.test", NOW).rpartition("@")[0]
    assert OURS.reverse(local.replace("=x", "=y"), NOW) is None
    assert Srs("other").reverse(local, NOW) is None
    assert OURS.reverse(local, NOW + (VALID_DAYS + 2) * DAY) is None
    for broken in ("srs0", "srs0=", "srs0=x", "srs0=x=y", "srs1=x=y", "info", ""):
        assert OURS.reverse(broken, NOW) is None


def test_our_own_senders_stay() -> None:
    assert OURS.forward("info@a.test", "a.test", NOW) == "info@a.test"
