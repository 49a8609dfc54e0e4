"""Writes the state of each requirement row into docs/requirements.md: `python -m tests.support.requirements`.

A row is tested when a test carries `@pytest.mark.req("R-…")`: that test proves the row's Verify column. It is
partial when tests only carry `@pytest.mark.req_part("R-…")`: they prove a part of it. Else it is open.

It holds on the grounds on which such a test runs: those of tests/cluster run on a cluster, and with them
the stories that they import; those of tests/local and tests/faults in the embedded default; the others ask
code that both grounds have in common.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "requirements.md"
_ROW = re.compile(r"^\| (R-\d{3}-\d{2}) \| ([^|]*) \|[^|]*\|[^|]*\|[^|]*\|$")


def marks(tests: Path) -> Iterator[tuple[str, str, str]]:
    """(marker, requirement, test) of every marked test function below `tests`."""
    for file in sorted(tests.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute):
                    for argument in decorator.args if decorator.func.attr in ("req", "req_part") else ():
                        name = f"{file.relative_to(tests)}::{node.name}"
                        yield decorator.func.attr, ast.literal_eval(argument), name


def shared(tests: Path) -> set[str]:
    """The stories of the embedded default that modules of tests/cluster tell, too."""
    found: set[str] = set()
    for file in sorted((tests / "cluster").glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tests.local."):
                name = f"local/{node.module.removeprefix('tests.local.')}.py"
                for alias in node.names:
                    told = _tests_of(tests / name) if alias.name == "*" else [alias.name]
                    found.update(f"{name}::{test}" for test in told)
    return found


def _tests_of(file: Path) -> list[str]:
    return re.findall(r"^(?:async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)


def _grounds(proof: list[str], both: set[str]) -> str:
    embedded = [test for test in proof if not test.startswith("cluster/")]
    on_cluster = [test for test in proof if not test.startswith(("local/", "faults/")) or test in both]
    return ", ".join(name for name, found in (("embedded", embedded), ("cluster", on_cluster)) if found)


def render(table: str, tests: Path) -> str:
    """The table with each row's state and tests as they are. Raises ValueError for a mark without a row."""
    proofs: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for marker, requirement, test in marks(tests):
        proofs[requirement][marker].append(test)
    lines, rows, both = [], set(), shared(tests)
    for line in table.splitlines():
        if match := _ROW.match(line):
            row, title = match.groups()
            rows.add(row)
            proof = proofs.get(row, {})
            state = "tested" if "req" in proof else "partial" if proof else "open"
            telling = proof.get("req", proof.get("req_part", []))
            names = ", ".join(f"`{test}`" for test in telling)
            line = f"| {row} | {title} | {state} | {_grounds(telling, both)} | {names} |"
        lines.append(line)
    if unknown := proofs.keys() - rows:
        raise ValueError(f"tests name rows that {TABLE.name} lacks: {', '.join(sorted(unknown))}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the table."""
    TABLE.write_text(render(TABLE.read_text(encoding="utf-8"), ROOT / "tests"), encoding="utf-8")
    print(f"wrote {TABLE}", file=sys.stderr)


if __name__ == "__main__":
    main()
