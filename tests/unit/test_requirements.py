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
    rows = "".join(f"| R-000-0{n} | title | ? | ? | ? |\n" for n in (1, 2, 3))
    states = [line.split(" | ")[2] for line in render(rows, tmp_path).splitlines()]
    assert states == ["tested", "partial", "open"]
    with pytest.raises(ValueError, match="R-000-02"):
        render("| R-000-01 | title | ? | ? | ? |\n", tmp_path)


def test_a_row_holds_on_the_grounds_on_which_its_tests_run(tmp_path: Path) -> None:
    for folder, file, source in (
        ("local", "test_a.py", '@pytest.mark.req("R-000-01")\ndef test_told_twice(): ...\n'),
        ("local", "test_b.py", '@pytest.mark.req("R-000-02")\ndef test_told_once(): ...\n'),
        ("local", "test_c.py", '@pytest.mark.req("R-000-03")\ndef test_told_by_name(): ...\n'),
        ("cluster", "test_a.py", "from tests.local.test_a import *\n"),
        ("cluster", "test_c.py", "from tests.local.test_c import test_told_by_name\n"),
        ("cluster", "test_d.py", '@pytest.mark.req("R-000-04")\ndef test_elsewhere(): ...\n'),
        ("unit", "test_e.py", '@pytest.mark.req("R-000-05")\ndef test_common(): ...\n'),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / file).write_text(source)
    rows = "".join(f"| R-000-0{n} | title | ? | ? | ? |\n" for n in range(1, 6))
    grounds = [line.split(" | ")[3] for line in render(rows, tmp_path).splitlines()]
    assert grounds == ["embedded, cluster", "embedded", "embedded, cluster", "cluster", "embedded, cluster"]
