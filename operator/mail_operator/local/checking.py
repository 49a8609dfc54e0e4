"""What is wrong in manifests: file, line, field, reason. It asks no cluster."""

import re
import sys
from pathlib import Path

from mail_operator.compiler import compile
from mail_operator.compiler.status import ready_of
from mail_operator.local.manifests import Manifests
from mail_operator.local.questions import CommandError
from mail_operator.local.state import State
from mail_operator.local.world import World
from mail_operator.resources import pending_fields


def require(paths: list[Path]) -> None:
    """Raises CommandError if one of them does not exist."""
    for path in paths:
        if not path.exists():
            raise CommandError(f"{path}: no such file or folder")


def look(paths: list[Path]) -> World:
    """What the manifests say. Raises CommandError if a path does not exist."""
    require(paths)
    world = World(Manifests(paths), State(hash_key="00"))
    world.refresh()
    return world


def check(paths: list[Path]) -> int:
    """Print what is wrong. Returns the exit status: 1 where there are findings."""
    world = look(paths)
    plan = compile(world.snapshot)
    findings = list(world.problems)
    for ref, status in plan.statuses.items():
        ready = ready_of(status)
        if ready and ready["status"] == "False":
            blamed = re.search(r"\bspec(\.[a-z]\w*)+", ready["message"])
            text = f"{ready['reason']}: {ready['message']}"
            findings.append(world.problem(ref, blamed[0] if blamed else "", text))
    for ref, resource in world.snapshot.objects.items():
        for field, requirement in pending_fields(resource):
            effect = f"has no effect in this version ({requirement}): remove it, or leave it for a later one"
            findings.append(world.problem(ref, field, effect))
    for finding in sorted(findings, key=lambda each: (each.file, each.line, each.field)):
        print(finding)
    print(f"{len(world.snapshot.objects)} objects, {len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0
