"""What replies do not mean: a transaction that is too large, a store that does not know an account yet."""

from mailpods.delivery.client.replies import Reply
from mailpods.delivery.outcomes.settle import settle

OK, MANY = Reply(250, "ok"), Reply(552, "5.5.3 too many recipients")


def test_the_excess_goes_at_once_where_some_were_taken() -> None:
    for many in (MANY, Reply(452, "4.5.3 too many recipients")):
        believed, excess = settle(["a", "b", "c"], [OK, many, many], lambda _: False)
        assert believed == {"a": OK} and excess == ["b", "c"]
    assert settle(["a", "b"], [MANY, MANY], lambda _: False) == ({"a": MANY, "b": MANY}, [])


def test_a_full_mailbox_is_no_excess() -> None:
    full = Reply(552, "5.2.2 mailbox full")
    assert settle(["a", "b"], [OK, full], lambda _: False) == ({"a": OK, "b": full}, [])


def test_an_account_that_the_directory_has_is_not_bounced_by_its_store() -> None:
    unknown = Reply(550, "5.1.1 <7/info> User doesn't exist")
    believed, _ = settle(["7/info"], [unknown], lambda target: target == "7/info")
    assert believed["7/info"].code == 451
    assert settle(["x@b.test"], [unknown], lambda _: False)[0]["x@b.test"] == unknown
