"""What GitOps tools think of objects: `python -m tests.support.health` builds the judge that tests ask.

It is a Go program, pinned in tests/cluster/tools/health: the kstatus library, and the Lua interpreter that
Argo CD uses. It is kept in the cache folder under the hash of its source.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "config" / "gitops" / "argocd-cm.yaml"
_MODULE = ROOT / "tests" / "cluster" / "tools" / "health"


def _built() -> Path:
    cache = os.environ.get("MAILPODS_CACHE", "/var/cache/mailpods")
    source = b"".join((_MODULE / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    return Path(cache) / "bin" / f"health-{hashlib.sha256(source).hexdigest()[:16]}"


def find() -> str | None:
    """The program, if it is here already."""
    return str(_built()) if _built().exists() else None


def build() -> None:
    """Build it, with patience for others. Raises FileNotFoundError where there is no Go."""
    built = _built()
    built.parent.mkdir(parents=True, exist_ok=True)
    unfinished = built.with_name(f"{built.name}.{os.getpid()}")
    command = ["nice", "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(unfinished), "."]
    env = {**os.environ, "CGO_ENABLED": "0"}
    subprocess.run(command, check=True, cwd=_MODULE, env=env, stdout=sys.stderr)
    unfinished.replace(built)


def settings() -> dict[str, str]:
    """What config/gitops/argocd-cm.yaml sets."""
    data: dict[str, str] = yaml.safe_load(SETTINGS.read_text())["data"]
    return data


def verdicts(objects: Sequence[Mapping[str, Any]], script: str, folder: Path) -> list[tuple[str, str, str]]:
    """For each object what kstatus says, what the health script says, and the script's message.

    `folder` takes the script. Raises CalledProcessError where one of them cannot judge.
    """
    program = find()
    assert program is not None
    path = folder / "health.lua"
    path.write_text(script)
    done = subprocess.run(
        [program, str(path)], input=json.dumps(objects), stdout=subprocess.PIPE, text=True, check=True
    )
    answers = json.loads(done.stdout)
    return [(a["kstatus"]["status"], a["argo"]["status"], a["argo"]["message"]) for a in answers]


def main() -> int:
    """Build what is missing."""
    if find() is None:
        if shutil.which("go") is None:
            print("no Go here: tests of what GitOps tools see are skipped", file=sys.stderr)
            return 0
        try:
            build()
        except subprocess.CalledProcessError as error:
            print(f"the judge of health was not built: {error}", file=sys.stderr)
            return 1
    print(find())
    return 0


if __name__ == "__main__":
    sys.exit(main())
