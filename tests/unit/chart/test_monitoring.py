"""Alerts, their pages and the dashboard fit each other, and the metrics that the programs have."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.helm import ROOT
from tests.support.prometheus import ALERTS, alerts, panels

PAGES = ROOT / "docs" / "runbooks"
CASES = Path(__file__).with_name("alerts_test.yaml")
HEADINGS = ["What it means", "What the customer feels", "How to look", "What to do"]
METRIC = re.compile(r"\b(mail(?:pods)?_[a-z_]+)\b")


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert {page.stem for page in PAGES.glob("Mailpods*.md")} == alerts().keys()
    for name, alert in alerts().items():
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
        page = (PAGES / f"{name}.md").read_text()
        assert page.startswith(f"# {name}\n") and re.findall("^## (.+)$", page, re.M) == HEADINGS
        assert f"[{name}](runbooks/{name}.md)" in (ROOT / "docs" / "monitoring.md").read_text()


def test_every_alert_says_how_bad_and_what() -> None:
    for name, alert in alerts().items():
        assert alert["labels"]["severity"] in ("critical", "warning"), name
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}, name
        assert alert["for"], name


def test_no_metric_is_named_that_no_program_has() -> None:
    sources = [*(ROOT / "mailpods").rglob("*.py"), *(ROOT / "operator").rglob("*.py")]
    there = {name for source in sources for name in re.findall(r'"(mail(?:pods)?_\w+)"', source.read_text())}
    queries = [alert["expr"] for alert in alerts().values()]
    queries += [query for each in panels().values() for query in each]
    for query in queries:
        for name in METRIC.findall(query):
            assert re.sub(r"_(total|bucket|count|sum)$", "", name) in there, (name, query)


def test_no_panel_has_the_title_of_another() -> None:
    assert len(panels()) > 20
    assert all(panels().values())


def test_every_alert_has_a_case() -> None:
    text = CASES.read_text()
    assert yaml.safe_load(text)["rule_files"] == [ALERTS.name]
    assert all(name in text for name in alerts())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no prometheus: ./run test installs it")
def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    for file in (ALERTS, CASES):
        shutil.copy(file, tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", CASES.name], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
