"""docs/requirements.md says what is proven, and nothing else."""

from pathlib import Path

import pytest

from tests.support.requirements import ROOT, TABLE, render


def test_the_table_is_up_to_date() -> None:
    table = TABLE.read_text(encoding="utf-8")
    assert render(table, ROOT / "tests") == table, "run: python -m tests.support.requirements"


def test_states_follow_the_marks(tmp_path: Path) -> None:
    source = """
@pytest.mark.req("R-000-01")
@pytest.mark.req_part("R-000-02")
def test_two_domains(): ...
"""
    (tmp_path / "test_a.py").write_text(source)
    rows = "".join(f"| R-000-0{n} | title | ? | ? |\n" for n in (1, 2, 3))
    states = [line.split(" | ")[2] for line in render(rows, tmp_path).splitlines()]
    assert states == ["tested", "partial", "open"]
    with pytest.raises(ValueError, match="R-000-02"):
        render("| R-000-01 | title | ? | ? |\n", tmp_path)
