"""The data folder keeps what was decided once, and belongs to one runner at a time."""

import os
from pathlib import Path

import pytest
from mail_operator.local.state import DataFolder, DataFolderError, require_access


def test_what_was_decided_outlives_a_run(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    first, second = data.state.age("MailDomain a/a"), data.state.age("MailDomain b/b")
    assert first < second
    data.state.keep_secret("a/info-password", {"password": b"x"})
    key = data.state.hash_key
    data.save()
    data.close()

    again = DataFolder(tmp_path / "data")
    assert again.state.age("MailDomain b/b") == second
    assert again.state.secret("a/info-password") == {"password": b"x"}
    assert again.state.hash_key == key
    assert (tmp_path / "data" / "state.json").stat().st_mode & 0o077 == 0
    again.close()


def test_a_second_runner_is_told_why_it_cannot(tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    with pytest.raises(DataFolderError, match="another `mailpods up`"):
        DataFolder(tmp_path)
    data.close()


def test_a_broken_state_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(DataFolderError, match=r"state\.json"):
        DataFolder(tmp_path)
    assert (tmp_path / "state.json").read_text() == "{"


@pytest.mark.skipif(os.geteuid() != 0, reason="the programs keep the user that they are started by")
def test_a_folder_that_the_programs_may_not_enter_is_named_with_a_remedy(passable: Path) -> None:
    closed = passable / "closed"
    (closed / "data").mkdir(parents=True)
    require_access(closed / "data", "nobody")
    closed.chmod(0o700)
    with pytest.raises(DataFolderError, match=f"user nobody, .* may not enter {closed}: choose"):
        require_access(closed / "data", "nobody")
    require_access(closed / "data", None)
