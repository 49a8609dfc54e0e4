"""What a person sees of an installation on one machine."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mail_operator.cli.main import main
from mail_operator.local.observed import ObservedState
from mail_operator.local.ports import Ports
from mail_operator.local.table import render_table

from tests.support.compiling import SERVER

DOWN = "store: 0 of 1 pods are ready; shard 0 is down; main-store-0: store restarted 3 times: out of memory."


def status(ready: str = "True") -> dict[str, Any]:
    return {
        "conditions": [
            {"type": "Ready", "status": ready, "reason": "Serving", "message": "It serves."},
            {"type": "ComponentsReady", "status": "False", "reason": "ShardDown", "message": DOWN},
        ]
    }


@pytest.mark.parametrize("ready", ["True", "Unknown"])
def test_a_program_that_cannot_run_is_named_in_the_table(ready: str) -> None:
    observed = cast(ObservedState, SimpleNamespace(password_hint=lambda ref: "", problems=()))
    ports = cast(Ports, SimpleNamespace(offered=dict))
    (row,) = [
        line for line in render_table({SERVER: status(ready)}, observed, ports).splitlines() if "main" in line
    ]
    assert f" {ready} " in row and row.endswith(f" ShardDown: {DOWN}")


def test_a_program_that_cannot_run_is_named_by_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"kind": "MailServer", "namespace": "t", "name": "main", "status": status()}
    monkeypatch.setattr("mail_operator.cli.main._running", lambda data: {"objects": [row]})
    assert main(["status", "--data", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said == f"MailServer t/main: True Serving: It serves. ShardDown: {DOWN}\n"
