"""Nobody else on the machine reads people's mail or addresses."""

import stat
from collections.abc import Iterator
from pathlib import Path

from tests.support.installation import EmbeddedInstallation

HARMLESS = {"resolve.json", "instances"}  # the names of pods and Services; the folders of each Dovecot


def readable_by_all(folder: Path) -> Iterator[Path]:
    """The files below it that are for all to read, and the folders that anybody can get at and list."""
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        closed = any(not parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
        exposed = path.stat().st_size if stat.S_ISREG(mode) else stat.S_ISDIR(mode) and not closed
        if exposed and mode & stat.S_IROTH:
            yield path.relative_to(folder)


def test_nothing_in_the_data_folder_is_for_all_to_read(installation: EmbeddedInstallation) -> None:
    before = len(installation.inbox("7/info", "pw-info"))
    installation.deliver("x@example.net", "info@a.test", "private")
    installation.wait_for_mail("7/info", "pw-info", before + 1)
    assert "info@a.test" in installation.log("main-smtp-0-smtp")
    assert [path for path in readable_by_all(installation.data) if path.name not in HARMLESS] == []
    assert not installation.data.stat().st_mode & stat.S_IROTH
