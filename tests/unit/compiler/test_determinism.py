"""The same input gives the same bytes, in every process: a restart must write nothing."""

import os
import subprocess
import sys

PROGRAM = """
import json
from mail_operator.compiler.plan import wire
from tests.support.compiling import Compiled, alias, domain, mailbox, server

plan = Compiled(
    server(loginForms=["numbered", "address", "generated"]),
    domain(number=7, dkim={"enabled": True}, bulk={"enabled": True}, additionalNames=["c.test", "b.test"]),
    *(mailbox(f"m{n}") for n in range(20)),
    mailbox("renamed", formerAddress={"localPart": "earlier"}),
    mailbox("listed", displayName="Listed", quota="1Gi"),
    alias("round", "trip@a.test", "m1"),
    alias("trip", "round@a.test"),
    alias("lost", "nobody"),
).plan
print(json.dumps({str(ref): status for ref, status in plan.statuses.items()}))
print(json.dumps([wire(each) for each in plan.objects]))
print(plan.secrets, plan.allocations, plan.dependencies and sorted(map(str, plan.dependencies)))
"""


def test_every_process_says_the_same() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(said) == 1 and len(said.pop()) > 10_000
