"""Links by which recipients leave: for one address of one list, and made by nobody else."""

import pytest

from mailpods.smtp.suppressions import read_token, token


@pytest.mark.parametrize("address", ["x@sink.test", "é@sink.test", "a+b=c@sink.test"])
def test_a_token_names_list_and_address(address: str) -> None:
    assert read_token("key", token("key", "A.test", address)) == ("a.test", address)


def test_other_tokens_are_none_of_ours() -> None:
    mark = token("key", "a.test", "x@sink.test")
    for wrong in (mark[:-1], mark + "A", "A" + mark[1:], "", "%%%", token("other", "a.test", "x@sink.test")):
        assert read_token("key", wrong) is None
