"""Faults of our own: an exception while something is made for one object stays with that object.

What was last made for it stays in force, and its status names an id that the log explains.
"""

import hashlib
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mail_operator.compiler.status import condition, ready, status_of
from mail_operator.kinds import Resource
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.verdict import Verdict

REASON = "InternalError"
# Their words are names of our own. Those of others may be what a Secret holds, which no log may have.
_NAMES_ONLY = (LookupError, AttributeError, TypeError, NameError, ImportError)


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong with an object. `id` is in its status and in the log, where `traceback` stands."""

    ref: ObjectRef
    id: str
    traceback: str


def fault_of(ref: ObjectRef, error: Exception) -> Fault:
    """The same error at the same object has the same id: equal snapshots give equal Plans."""
    found = traceback.TracebackException.from_exception(error)
    text = "".join(found.stack.format()) + type(error).__name__
    if isinstance(error, _NAMES_ONLY):
        text += f": {error}"
    return Fault(ref, hashlib.sha256(f"{ref}\n{text}".encode()).hexdigest()[:8], text)


def verdict_of(fault: Fault) -> Verdict:
    """What the object says."""
    return Verdict(
        REASON,
        f"A fault of Mailpods itself ({fault.id}), which the operator's log explains: what was last made of "
        "this object stays in force, if anything was. Report it; another spec may avoid it.",
        waits=True,
    )


def internal_error(resource: Resource, fault: Fault, before: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Its status; but for Ready, that of `before` stays. Asks nothing of the rest of the resource."""
    kept = {key: value for key, value in (before or {}).items() if key not in _OWN}
    others = [
        {key: value for key, value in each.items() if key != "observedGeneration"}
        for each in (before or {}).get("conditions", ())
        if each["type"] not in ("Ready", "Stalled")
    ]
    conditions = ready(verdict_of(fault), "") + others
    if resource.kind == "MailDomain" and before is None:
        conditions.append(condition("Accepting", False, REASON, "Takes no mail."))
    return status_of(resource.metadata.generation, conditions, kept)


_OWN = ("conditions", "observedGeneration")
