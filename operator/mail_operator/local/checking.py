"""What is wrong in manifests: file, line, field, reason. It asks no cluster."""

import re
import sys
from pathlib import Path

from mail_operator.compiler.compiling import compile
from mail_operator.compiler.status import ready_of
from mail_operator.kinds import pending_fields
from mail_operator.kinds.meta import API_VERSION
from mail_operator.local.manifests import Manifests
from mail_operator.local.observed import ObservedState
from mail_operator.local.questions import CommandError
from mail_operator.local.state import State


def require(paths: list[Path]) -> None:
    """Raises CommandError if one of them does not exist."""
    for path in paths:
        if not path.exists():
            raise CommandError(f"{path}: no such file or folder")


def look(paths: list[Path]) -> ObservedState:
    """What the manifests say, with a line for each that is skipped.

    Raises CommandError if a path does not exist, or if there is no manifest at all.
    """
    require(paths)
    observed = ObservedState(Manifests(paths), State(hash_key="00"))
    observed.refresh()
    observed.hash_passwords()
    require_manifests(observed)
    return observed


def require_manifests(observed: ObservedState) -> None:
    """Name what was skipped, and words that changed. Raises CommandError where there is nothing else."""
    for note in (*observed.manifests.skipped, *observed.hints()):
        print(note, file=sys.stderr)
    if not observed.snapshot.objects and not observed.problems:
        where = ", ".join(map(str, observed.manifests.paths))
        raise CommandError(
            f"{where}: no manifest of mail is here: name a folder with *.yaml, *.yml or *.json that hold "
            f"objects of {API_VERSION}, such as examples/quickstart"
        )


def check(paths: list[Path]) -> int:
    """Print what is wrong. Returns the exit status: 1 where there are findings."""
    observed = look(paths)
    plan = compile(observed.snapshot)
    findings = list(observed.problems)
    for ref, status in plan.statuses.items():
        ready = ready_of(status)
        if ready and ready["status"] == "False":
            blamed = re.search(r"\bspec(\.[a-z]\w*)+", ready["message"])
            text = f"{ready['reason']}: {ready['message']}"
            findings.append(observed.problem(ref, blamed[0] if blamed else "", text))
    for ref, resource in observed.snapshot.objects.items():
        for field, requirement in pending_fields(resource):
            effect = f"has no effect in this version ({requirement}): remove it, or leave it for a later one"
            findings.append(observed.problem(ref, field, effect))
    for finding in sorted(findings, key=lambda each: (each.file, each.line, each.field)):
        print(finding)
    print(f"{len(observed.snapshot.objects)} objects, {len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0
