"""The list of reasons in docs/conditions.md is what the code gives."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from mail_operator.compiler.faults import REASON
from mail_operator.compiler.zones import NOT_ASKED

from mailpods.directory.certificate import Reason

ROOT = Path(__file__).parents[2]
CONSTANTS = {"NOT_ASKED": NOT_ASKED, "REASON": REASON}
REASON_AT = {"Verdict": 0, "SecretProblem": 0, "condition": 2}  # which argument it is


def given(file: Path) -> Iterator[str]:
    """The reasons that stand in a file."""
    for node in ast.walk(ast.parse(file.read_text())):
        values: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            position = REASON_AT.get(node.func.id)
            values = [] if position is None else node.args[position : position + 1]
        elif isinstance(node, ast.Dict):
            keys = zip(node.keys, node.values, strict=True)
            values = [v for k, v in keys if isinstance(k, ast.Constant) and k.value == "reason"]
        for value in values:
            for part in ast.walk(value):
                if isinstance(part, ast.Name) and part.id in CONSTANTS:
                    yield CONSTANTS[part.id]
                if isinstance(part, ast.Constant) and re.fullmatch(r"[A-Z]\w+", str(part.value)):
                    yield str(part.value)


def test_every_reason_is_documented_and_no_other() -> None:
    files = (ROOT / "operator" / "mail_operator").rglob("*.py")
    reasons = {reason for file in files for reason in given(file)} | set(get_args(Reason))
    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "conditions.md").read_text(), re.M)
    assert len(table) == len(set(table))
    assert set(table) == reasons


def test_every_reason_has_a_test() -> None:
    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "conditions.md").read_text(), re.M)
    nodes = (
        node for file in (ROOT / "tests").rglob("*.py") for node in ast.walk(ast.parse(file.read_text()))
    )
    said = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert not [reason for reason in table if reason not in said]
