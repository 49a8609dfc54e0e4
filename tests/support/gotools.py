"""Small Go programs that tests ask: `python -m tests.support.gotools` builds those that are missing.

Each is a module in tests/cluster/tools, with its dependencies pinned, on the code of others: what API servers
and GitOps tools do is theirs to say. It is kept in the cache folder under the hash of its source.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

_MODULES = Path(__file__).parents[1] / "cluster" / "tools"
TOOLS = ("health", "schema")


def _built(tool: str) -> Path:
    cache = os.environ.get("MAILPODS_CACHE", "/var/cache/mailpods")
    source = b"".join((_MODULES / tool / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    return Path(cache) / "bin" / f"{tool}-{hashlib.sha256(source).hexdigest()[:16]}"


def find(tool: str) -> str | None:
    """The program, if it is here already."""
    return str(_built(tool)) if _built(tool).exists() else None


def missing(tool: str) -> tuple[bool, str]:
    """Whether tests that ask it must be skipped, and what is said then."""
    return find(tool) is None, f"no {tool}: install Go, then run python -m tests.support.gotools"


def ask(tool: str, *arguments: str, text: str) -> str:
    """What the program answers. Raises CalledProcessError where it cannot judge."""
    program = find(tool)
    assert program is not None
    done = subprocess.run([program, *arguments], input=text, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def build(tool: str) -> None:
    """Build it, with patience for others. Raises FileNotFoundError where there is no Go."""
    built = _built(tool)
    built.parent.mkdir(parents=True, exist_ok=True)
    unfinished = built.with_name(f"{built.name}.{os.getpid()}")
    command = ["nice", "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(unfinished), "."]
    env = {**os.environ, "CGO_ENABLED": "0"}
    subprocess.run(command, check=True, cwd=_MODULES / tool, env=env, stdout=sys.stderr)
    unfinished.replace(built)


def main() -> int:
    """Build what is missing."""
    failed = False
    for tool in TOOLS:
        if find(tool) is None:
            if shutil.which("go") is None:
                print("no Go here: tests of what others' programs say are skipped", file=sys.stderr)
                return 0
            try:
                build(tool)
            except subprocess.CalledProcessError as error:
                print(f"{tool} was not built: {error}", file=sys.stderr)
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
