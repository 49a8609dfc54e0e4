"""The last good certificate stays in use, whatever comes after it."""

import datetime
from pathlib import Path

import pytest

from mailpods.smtp.tls import Certificate
from tests.support.pairs import Pair, bad, good

HOST = "mail.a.test"
NOW = datetime.datetime.now(datetime.UTC)
BAD = bad(HOST, NOW)


def put(folder: Path, pair: Pair) -> None:
    for name, data in pair.items():
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("what", BAD)
def test_a_bad_pair_changes_nothing_until_it_is_mended(what: str, tmp_path: Path) -> None:
    said: list[str] = []
    certificate = Certificate(tmp_path, said.append, lambda: HOST)
    put(tmp_path, good(HOST, at=NOW))
    assert certificate.refresh()
    first = certificate.context
    put(tmp_path, BAD[what][1])
    assert not certificate.refresh() and not certificate.refresh()
    assert certificate.context is first and len(said) == 1
    put(tmp_path, good(HOST, "imap.a.test", at=NOW))
    assert certificate.refresh() and certificate.context is not first


@pytest.mark.parametrize("what", ["ended", "other names", "a common name"])
def test_where_there_is_no_better_one_it_is_used(what: str, tmp_path: Path) -> None:
    certificate = Certificate(tmp_path, print, lambda: HOST)
    put(tmp_path, BAD[what][1])
    assert certificate.refresh() and certificate.context
    put(tmp_path, good(HOST, at=NOW))
    assert certificate.refresh()


def test_a_star_stands_for_one_label(tmp_path: Path) -> None:
    said: list[str] = []
    certificate = Certificate(tmp_path, said.append, lambda: HOST)
    put(tmp_path, good("*.a.test", at=NOW))
    assert certificate.refresh() and not said
