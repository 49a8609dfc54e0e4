"""Small faults put into copies of the code on purpose: of each the tests beside it must become red.

They are listed in tests/mutants.toml: `file` below operator/mail_operator, `old` (which stands there once),
`new`, and the `tests` that are to notice. `./run mutants [ROOM]` tries those whose file begins with ROOM.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = ROOT / "tests" / "mutants.toml"
AT_ONCE = 2
_SECONDS = 300
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "bench", "docs", "images")


@dataclass(frozen=True)
class Mutant:
    """One fault, and the tests (pytest's arguments) that are to notice it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def listed(room: str = "") -> list[Mutant]:
    """Those of a room, as compiler or cluster/reflector. Raises ValueError where one does not fit."""
    found = [
        Mutant(each["name"], each["file"], each["old"], each["new"], tuple(each["tests"]))
        for each in tomllib.loads(LIST.read_text())["mutant"]
        if each["file"].startswith(room)
    ]
    for each in found:
        count = (_code(ROOT) / each.file).read_text().count(each.old)
        if count != 1 or each.old == each.new:
            raise ValueError(f"{LIST.name}: {each.name}: {each.file} has `old` {count} times, not once")
    return found


def _code(root: Path) -> Path:
    return root / "operator" / "mail_operator"


def tried(mutant: Mutant, root: Path) -> str:
    """What became of it in a copy of the repository: killed, SURVIVED, or what went wrong."""
    file = _code(root) / mutant.file
    sound = file.read_text()
    file.write_text(sound.replace(mutant.old, mutant.new))
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *mutant.tests],
            cwd=root,
            env={**os.environ, "PYTHONPATH": f"{root / 'operator'}:{root}", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "killed"  # it hangs
    finally:
        file.write_text(sound)
    if ended.returncode in (0, 1):
        return "killed" if ended.returncode else "SURVIVED"
    return f"pytest ended with {ended.returncode}: {ended.stdout[-500:]}"


def main(rooms: list[str]) -> int:
    """Try them all, and print a line for each. Returns 1 where one survived."""
    mutants = [each for room in rooms or [""] for each in listed(room)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        free = [Path(folder) / str(n) for n in range(AT_ONCE)]
        for copy in free:
            shutil.copytree(ROOT, copy, ignore=_LEFT_OUT, symlinks=True)

        def one(mutant: Mutant) -> str:
            root = free.pop()
            try:
                return tried(mutant, root)
            finally:
                free.append(root)

        failed = 0
        for mutant, outcome in zip(mutants, pool.map(one, mutants), strict=True):
            print(f"{outcome:9} {mutant.file:32} {mutant.name}", flush=True)
            failed += outcome != "killed"
    print(f"{len(mutants) - failed} of {len(mutants)} killed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
