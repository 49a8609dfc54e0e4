"""Written dialogues with what the world and its programs really send, each with the right outcome."""

from pathlib import Path

import pytest

from tests.support.dialogues import play

DIALOGUES = sorted((Path(__file__).parent / "dialogues").glob("*.txt"))


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_a_dialogue_goes_as_its_file_says(path: Path) -> None:
    play(path)
