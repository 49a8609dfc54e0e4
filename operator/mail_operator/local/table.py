"""What a person is shown: domains, mailboxes, how to log in, what is wrong, and what is queued."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mail_operator.compiler.status import hindrance_of, ready_of
from mail_operator.kinds.meta import ObjectRef
from mail_operator.local.observed import ObservedState
from mail_operator.local.ports import Ports

_SHOWN = ("MailServer", "MailDomain", "Mailbox", "MailAlias", "MailingList", "RelayPolicy")
_HELD = 1e12  # as the time of the next attempt, epoch seconds: an administrator holds it (mailpods.spool)
_MANY = 40  # more rows than this would scroll everything else away


def columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """The rows as lines with aligned columns."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def render_table(
    statuses: Mapping[ObjectRef, Mapping[str, Any]], observed: ObservedState, ports: Ports
) -> str:
    """The table as text."""
    order = sorted(statuses, key=lambda ref: (_SHOWN.index(ref.kind), ref.namespace, ref.name))
    rows = [("KIND", "NAME", "ADDRESS", "LOGIN", "PASSWORD", "READY", "WHY NOT")]
    for ref in order:
        status = statuses[ref]
        ready = ready_of(status)
        state = ready["status"] if ready else "Unknown"
        why = hindrance_of(status)
        name = f"{ref.namespace}/{ref.name}"
        login = str(status.get("login", ""))
        rows.append(
            (ref.kind, name, str(status.get("address", "")), login, observed.password_hint(ref), state, why)
        )
    bad = [row for row in rows[1:] if row[5] != "True"]
    ill = [row for row in rows[1:] if row[6]]
    left_out = 0
    if len(rows) > _MANY:
        kept = [*ill, *(row for row in rows[1:] if not row[6])][:_MANY]
        left_out = len(rows) - 1 - len(kept)
        rows = [rows[0], *kept]
    lines = [*columns(rows)]
    if left_out:
        lines.append(f"… and {left_out} more; `mailpods status` lists all")
    lines.append(f"{len(statuses) - len(bad)} of {len(statuses)} objects are ready")
    if listening := ports.offered():
        lines.append("listening on " + ", ".join(f"{name} {port}" for name, port in listening.items()))
    lines += [str(problem) for problem in observed.problems]
    return "\n".join(["", *lines])


Waiting = Sequence[tuple[str, Mapping[str, Any]]]  # pod, and a recipient that waits there (GET /queue)


def queue_table(waiting: Waiting, count: int) -> Iterable[str]:
    """A line for each recipient that waits and is shown, and how many do."""
    rows = [("ID", "SENDER", "RECIPIENT", "BYTES", "SINCE", "TRIES", "NEXT", "LAST REPLY")]
    for _, each in waiting:
        sender, size, tries = f"<{each['sender']}>", str(each["size"]), str(each["attempts"])
        again = "held" if _is_held(each["next_try"]) else _time(each["next_try"])
        times = _time(each["received_at"]), again
        rows.append((each["id"], sender, each["recipient"], size, times[0], tries, times[1], each["reply"]))
    yield from columns(rows)
    yield f"{count} recipients wait{_left_out(waiting, count)}"


def queue_details(waiting: Waiting, count: int) -> Iterable[str]:
    """All that is known of each recipient that waits and is shown."""
    if not waiting:
        yield "nothing that waits is like this"
    for pod, each in waiting:
        yield f"{each['id']} in {pod}"
        yield f"  from       <{each['sender']}>, {each['size']} bytes, taken {_time(each['received_at'])}"
        yield f"  to         {each['recipient']}"
        again = "held" if _is_held(each["next_try"]) else f"next {_time(each['next_try'])}"
        yield f"  tried      {each['attempts']} times, {again}"
        yield f"  last reply {each['reply'] or 'none yet'}"
    if left_out := _left_out(waiting, count):
        yield f"{count} recipients wait{left_out}"


def suppression_table(entries: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """A line for each address that a domain sends no mailings: since when, until when, and why."""
    rows = [("DOMAIN", "ADDRESS", "SINCE", "UNTIL", "WHY")]
    for each in entries:
        until = _time(each["until"]) if each.get("until") else "removed"
        rows.append((each["domain"], each["address"], _time(each["since"]), until, each["reason"]))
    yield from columns(rows)


def _left_out(waiting: Waiting, count: int) -> str:
    return f", of which these {len(waiting)} are next" if count > len(waiting) else ""


def _is_held(epoch: float) -> bool:
    return epoch >= _HELD


def _time(epoch: float) -> str:
    return datetime.datetime.fromtimestamp(epoch).astimezone().isoformat(" ", "seconds")
