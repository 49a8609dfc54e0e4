"""Which numbers domains had: mail may be parked under them, and no other domain gets one unasked.

They are kept in a Secret of the MailServer's, which this makes and reads: names of domains with numbers.
"""

import json
from collections.abc import Collection, Mapping

from mail_operator.compiler.snapshot import Snapshot
from mail_operator.components.installation import Installation
from mail_operator.kinds.meta import ObjectRef

FILE, TYPE = "numbers.json", "mailpods.io/numbers"
_MOST_BYTES = 900_000  # of 1 MiB that a Secret may hold; only who has a number now is written down beyond


def secret_name(server: ObjectRef) -> tuple[str, str]:
    """Where they are kept."""
    return server.namespace, f"{server.name}-numbers"


def had(server: ObjectRef, snapshot: Snapshot) -> dict[str, int]:
    """Domain -> the number that it has, or had when it was last there."""
    found = snapshot.secrets.get(secret_name(server))
    if not isinstance(found, Mapping):
        return {}
    try:
        numbers = json.loads(found.get(FILE, b"{}"))
        return {str(name): int(number) for name, number in numbers.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def ledger(
    at: Installation, now: Mapping[str, int], wiped: Collection[int], snapshot: Snapshot
) -> dict[str, object] | None:
    """The Secret. `now`: the domains that are served; `wiped`: whose numbers are free, as their mail is gone.

    None where it is there and cannot be read: what it holds must not be lost.
    """
    namespace, name = secret_name(at.ref)
    found = snapshot.secrets.get((namespace, name))
    if found is not None and not isinstance(found, Mapping):
        return None
    before = {n: number for n, number in had(at.ref, snapshot).items() if number not in wiped}
    data = _encoded({**before, **now})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": at.metadata(name, "numbers"),
        "type": TYPE,
        "data": {FILE: data if len(data) <= _MOST_BYTES else _encoded(now)},
    }


def _encoded(numbers: Mapping[str, int]) -> bytes:
    return json.dumps(numbers, sort_keys=True, separators=(",", ":")).encode()
