"""Which numbers domains had: mail may be parked under them, and no other domain gets one unasked.

They are kept in a Secret of the MailServer's, which this makes and reads: names of domains with numbers, and
with the MailDomains that have them.
"""

import json
from collections.abc import Collection, Mapping

from mail_operator.compiler.snapshot import Snapshot
from mail_operator.components.installation import Installation
from mail_operator.kinds.meta import ObjectRef

FILE, OWNERS_FILE, TYPE = "numbers.json", "owners.json", "mailpods.io/numbers"
_MOST_BYTES = 450_000  # of each file, of 1 MiB that a Secret may hold; beyond, only what is so now is kept


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


def owners(server: ObjectRef, snapshot: Snapshot) -> dict[str, ObjectRef] | None:
    """Name -> the MailDomain that has it, or had it last. None where that cannot be read now."""
    found = snapshot.secrets.get(secret_name(server), {})
    if not isinstance(found, Mapping):
        return None
    try:
        pairs = json.loads(found.get(OWNERS_FILE, b"{}"))
        return {str(name): ObjectRef("MailDomain", *str(ref).split("/", 1)) for name, ref in pairs.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def ledger(
    at: Installation,
    now: Mapping[str, int],
    owned: Mapping[str, ObjectRef],
    wiped: Collection[int],
    snapshot: Snapshot,
) -> dict[str, object] | None:
    """The Secret. `now`: the domains that are served; `owned`: whose their names are; `wiped`: whose numbers
    are free, as their mail is gone.

    None where it is there and cannot be read: what it holds must not be lost.
    """
    namespace, name = secret_name(at.ref)
    found = snapshot.secrets.get((namespace, name))
    if found is not None and not isinstance(found, Mapping):
        return None
    numbers = had(at.ref, snapshot)
    # Mail may be parked under the number that a name had before it got another: that stays taken, too.
    before = {
        f"{n}/{number}" if now.get(n, number) != number else n: number
        for n, number in numbers.items()
        if number not in wiped
    }
    data = _encoded({**before, **now})
    known = {n: r for n, r in (owners(at.ref, snapshot) or {}).items() if numbers.get(n) not in wiped}
    most = [{**known, **owned}, owned, {n: ref for n, ref in owned.items() if n in now}]
    written = [_encoded({n: f"{ref.namespace}/{ref.name}" for n, ref in each.items()}) for each in most]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": at.metadata(name, "numbers"),
        "type": TYPE,
        "data": {
            FILE: data if len(data) <= _MOST_BYTES else _encoded(now),
            OWNERS_FILE: next((each for each in written if len(each) <= _MOST_BYTES), b"{}"),
        },
    }


def _encoded(table: Mapping[str, int] | Mapping[str, str]) -> bytes:
    return json.dumps(table, sort_keys=True, separators=(",", ":")).encode()
