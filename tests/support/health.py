"""What GitOps tools think of objects: the kstatus library, and the Lua interpreter that Argo CD uses.

tests/cluster/tools/health asks them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support import gotools

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "config" / "gitops" / "argocd-cm.yaml"


def settings() -> dict[str, str]:
    """What config/gitops/argocd-cm.yaml sets."""
    data: dict[str, str] = yaml.safe_load(SETTINGS.read_text())["data"]
    return data


def verdicts(objects: Sequence[Mapping[str, Any]], script: str, folder: Path) -> list[tuple[str, str, str]]:
    """For each object what kstatus says, what the health script says, and the script's message.

    `folder` takes the script. Raises CalledProcessError where one of them cannot judge.
    """
    path = folder / "health.lua"
    path.write_text(script)
    answers = json.loads(gotools.ask("health", str(path), text=json.dumps(objects)))
    return [(a["kstatus"]["status"], a["argo"]["status"], a["argo"]["message"]) for a in answers]
