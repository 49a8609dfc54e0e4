"""The table in docs/kinds.md: `python -m mail_operator.kinds.overview` writes what a test compares."""

import re
from collections.abc import Iterator

from mail_operator.kinds.crd import ROOT
from mail_operator.kinds.rights import has_domain
from mail_operator.kinds.table import KINDS

DOCUMENT = ROOT / "docs" / "kinds.md"
_AUTHORS = {
    "platform": "the platform team",
    "domains": "who makes domains (`mail-config`)",
    "users": "who keeps users (`mail-maint`, `mail-domain-admin`)",
}
_BLOCK = re.compile(r"(<!-- kinds: .*? -->\n).*?(<!-- /kinds -->)", re.DOTALL)


def rows() -> Iterator[str]:
    """The lines of the table."""
    yield "| kind | `kubectl get` | says | written by | belongs to | filled in where blank |"
    yield "|---|---|---|---|---|---|"
    for name, kind in KINDS.items():
        belongs = "a MailDomain" if has_domain(kind) else "" if kind.owns else "a MailServer"
        filled = ", ".join(f"`{field}`" for field in kind.filled)
        said = (kind.__doc__ or "").splitlines()[0].rstrip(".")
        names = f"`{kind.plural}`, `{kind.short_name}`"
        yield f"| {name} | {names} | {said} | {_AUTHORS[kind.author]} | {belongs} | {filled} |"


def written(text: str) -> str:
    """The document with the table as it should be."""
    table = "\n".join(rows())
    return _BLOCK.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text)


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
