"""What `mailpods up` shows a person: domains, mailboxes, how to log in, and what is wrong."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mail_operator.compiler.status import ready_of
from mail_operator.local.ports import Ports
from mail_operator.local.world import World
from mail_operator.resources.meta import ObjectRef

_SHOWN = ("MailServer", "MailDomain", "Mailbox", "MailAlias", "MailingList", "RelayPolicy")
_MANY = 40  # more rows than this would scroll everything else away


def columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """The rows as lines with aligned columns."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def render_table(statuses: Mapping[ObjectRef, Mapping[str, Any]], world: World, ports: Ports) -> str:
    """The table as text."""
    order = sorted(statuses, key=lambda ref: (_SHOWN.index(ref.kind), ref.namespace, ref.name))
    rows = [("KIND", "NAME", "ADDRESS", "LOGIN", "PASSWORD", "READY", "WHY NOT")]
    for ref in order:
        status = statuses[ref]
        ready = ready_of(status)
        state = ready["status"] if ready else "Unknown"
        why = f"{ready['reason']}: {ready['message']}" if ready and state != "True" else ""
        name = f"{ref.namespace}/{ref.name}"
        login = str(status.get("login", ""))
        rows.append(
            (ref.kind, name, str(status.get("address", "")), login, world.password_hint(ref), state, why)
        )
    bad = [row for row in rows[1:] if row[5] != "True"]
    left_out = 0
    if len(rows) > _MANY:
        kept = [*bad, *(row for row in rows[1:] if row[5] == "True")][:_MANY]
        left_out = len(rows) - 1 - len(kept)
        rows = [rows[0], *kept]
    lines = [*columns(rows)]
    if left_out:
        lines.append(f"… and {left_out} more; `mailpods status` lists all")
    lines.append(f"{len(statuses) - len(bad)} of {len(statuses)} objects are ready")
    if listening := ports.offered():
        lines.append("listening on " + ", ".join(f"{name} {port}" for name, port in listening.items()))
    lines += [str(problem) for problem in world.problems]
    return "\n".join(["", *lines])
