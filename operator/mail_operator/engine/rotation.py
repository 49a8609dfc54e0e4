"""When a domain's DKIM keys change: new ones are made, sign once DNS knows them, and the old ones go.

All that this remembers lies in the Secret, beside the keys: `since` (a date) is when those that sign began,
`next` names those that wait for DNS, `last` those that signed before.
"""

import datetime
import re
from collections.abc import Callable, Collection, Mapping

from mail_operator.compiler.dkim import ACTIVE, NEXT, SUFFIX, named

SINCE, LAST = "since", "last"
RETIRED_DAYS = 7  # that the record of a key is looked up after it last signed: mail waits five days
_MADE_IN = re.compile(r"[a-z](\d{4})(\d\d)$")  # selectors of first keys: r202611

Make = Callable[[datetime.date], Mapping[str, bytes]]


def rotated(
    values: Mapping[str, bytes], seen: Collection[str], days: int, today: datetime.date, make: Make
) -> dict[str, bytes | None]:
    """What to change in the Secret now; None for what goes. {}: nothing.

    `seen`: selectors whose records DNS holds; `days`: after which keys are to change; `make`: new keys.
    """
    there = [name.removesuffix(SUFFIX) for name in values if name.endswith(SUFFIX)]
    coming, last = named(values, NEXT), named(values, LAST)
    active = [s for s in named(values, ACTIVE) if s in there] or [s for s in there if s not in coming]
    since = _date(values.get(SINCE, b"")) or _made(active)
    if since is None:  # keys of somebody else: their time begins now
        return {SINCE: _text(today)}
    if coming and set(coming) <= set(seen):
        return {
            ACTIVE: " ".join(coming).encode(),
            LAST: " ".join(active).encode(),
            SINCE: _text(today),
            NEXT: None,
        }
    changes: dict[str, bytes | None] = {}
    if last and (today - since).days >= RETIRED_DAYS:
        changes |= {f"{selector}{SUFFIX}": None for selector in last if selector not in active}
        changes[LAST] = None
    if not coming and (today - since).days >= days:
        made = make(today)
        if made.keys().isdisjoint(values):
            changes |= made
            changes[NEXT] = " ".join(name.removesuffix(SUFFIX) for name in made).encode()
            changes[ACTIVE] = " ".join(active).encode()
    return changes


def _date(text: bytes) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text.decode("ascii").strip())
    except ValueError:
        return None


def _made(selectors: Collection[str]) -> datetime.date | None:
    """When the youngest of keys that are named by their month was made, at the earliest."""
    found = [match for selector in selectors if (match := _MADE_IN.match(selector))]
    months = [(int(m[1]), int(m[2])) for m in found if 1 <= int(m[2]) <= 12 and m[1] != "0000"]
    return datetime.date(*max(months), 1) if months else None


def _text(day: datetime.date) -> bytes:
    return day.isoformat().encode()
