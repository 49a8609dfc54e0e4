"""What the command lines ask of mail pods, and what they say of the answers."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mail_operator.cli import main as cli
from mail_operator.local import questions

ROW = {"id": "m", "sender": "info@a.test", "recipient": "x@far.test", "size": 5, "received_at": 0.0}


def ask(path: str, method: str, query: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Two pods, in each of which more waits than it shows."""
    row = {**ROW, "attempts": 1, "next_try": 60.0, "reply": "451 later"}
    rows: Mapping[str, Any] = {"/queue": [row] * 1000, "/queue/count": {"recipients": 30_000}}
    for pod in ("main-smtp-0", "main-bulk-0"):
        yield pod, rows[path] if method == "GET" else {"recipients": 64}


def queue(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    questions.add_queue(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("action", ["list", "show"])
def test_all_that_waits_is_counted_though_a_part_is_shown(
    capsys: pytest.CaptureFixture[str], action: str
) -> None:
    questions.queue(queue(action, "--domain", "far.test"), ask)
    said = capsys.readouterr().out
    assert "60000 recipients wait, of which these 2000 are next" in said and "451 later" in said


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("retry", "are tried now"),
        ("hold", "are held"),
        ("release", "are released"),
        ("delete", "are deleted"),
    ],
)
def test_a_change_says_how_many_it_touched(
    capsys: pytest.CaptureFixture[str], action: str, expected: str
) -> None:
    questions.queue(queue(action, "--domain", "far.test"), ask)
    said = capsys.readouterr().out
    assert said == f"main-smtp-0: 64 recipients {expected}\nmain-bulk-0: 64 recipients {expected}\n"


def test_the_list_says_why_since_when_and_until_when(capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"domain": "a.test", "reason": "bounce: 550", "since": 86400.0}
    found = [{**entry, "address": "x@b.test", "until": 2e9}, {**entry, "address": "y@b.test", "until": None}]
    parser = argparse.ArgumentParser()
    questions.add_suppressions(parser)
    questions.suppressions(parser.parse_args([]), lambda *_: [("main-bulk-0", found)])
    _, first, second, count = capsys.readouterr().out.splitlines()
    assert "1970-01-02" in first and "2033-05-18" in first and first.endswith("bounce: 550")
    assert "removed" in second and count == "2 addresses"


@pytest.mark.parametrize(
    "words", [["suppressions"], ["suppressions", "add", "--domain", "a.test", "--address", "x@b.test"]]
)
def test_what_reaches_no_pool_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text('{"queue": {"main-smtp-0/smtp": "127.0.0.1:1"}}')
    assert cli.main([*words, "--data", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "no bulk pod runs here, so nobody was asked" in said.err
