"""`mailpods demo` works with anybody's manifests: it logs in as whoever's password is known."""

import subprocess
import sys
from pathlib import Path

from tests.support.helm import ROOT

REFUSED = "a stranger may not pass mail on: 550 relay not permitted"


def demo(folder: Path) -> str:
    """What it prints. Fails where the demo does."""
    command = [sys.executable, "-m", "mail_operator.cli.main", "demo", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_other_passwords_than_the_example_s(tmp_path: Path) -> None:
    for file in (ROOT / "examples" / "quickstart").glob("*.yaml"):
        (tmp_path / file.name).write_text(file.read_text().replace("quickstart-info", "another-one"))
    said = demo(tmp_path)
    assert REFUSED in said
    assert "reads over IMAP:" in said and "2 messages," in said


def test_rules_that_refuse_strangers_and_pop3_for_the_lan_alone() -> None:
    said = demo(ROOT / "examples" / "office")
    assert REFUSED in said
    assert "a stranger's mail was refused" in said
    assert "info@office.example reads over IMAP:" in said and "POP3:" not in said


def test_nobody_whose_password_is_known(tmp_path: Path) -> None:
    for file in (ROOT / "examples" / "office").glob("*.yaml"):
        hashed = file.read_text().replace(
            "passwordSecretRef:\n    name: info-password", "passwordHash: '{PLAIN}x'"
        )
        (tmp_path / file.name).write_text(hashed)
    said = demo(tmp_path)
    assert REFUSED in said and "nobody logs in" in said
