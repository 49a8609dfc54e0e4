"""The mailboxes that a From or Sender field names (RFC 5322 §3.4 and §4.4, RFC 6854).

One pass without recursion over what strangers write. What is not in the grammar names nobody: who compares
addresses must not guess what some mail program would make of it.
"""

import re
from collections.abc import Iterator, Sequence

from mailpods.directory.idn import to_ascii

_TOKEN = re.compile(
    r'(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<literal>\[[^\[\]\\]*\])|(?P<special>[<>,:;@.])'
    r"|(?P<atom>[^\s\x00-\x20\x7f()<>\[\]:;@\\,.\"]+)|(?P<space>\s+)",
    re.DOTALL,
)
_PLAIN = re.compile(r"[^\s\x00-\x20\x7f()<>\[\]:;@\\,.\"]+(?:\.[^\s\x00-\x20\x7f()<>\[\]:;@\\,.\"]+)*\Z")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_PLAIN_ADDRESS = rf"{_ATOM}++(?:\.{_ATOM}++)*+@[A-Za-z0-9-]++(?:\.[A-Za-z0-9-]++)*+"
# Nearly every field has this form: an address, or one behind words without anything special.
_COMMON = re.compile(
    rf"(?:\r\n)?[ \t]*(?:({_PLAIN_ADDRESS})|(?:{_ATOM}|[. \t])*+<({_PLAIN_ADDRESS})>)[ \t]*\Z".encode()
)
Token = tuple[str, str]  # kind, text


class Malformed(ValueError):
    """What the field says is in no grammar."""


def mailboxes(value: bytes) -> list[str]:
    """The addresses that a field names, in lower case, domains in A-labels. Raises Malformed."""
    if match := _COMMON.match(value):
        return [(match[1] or match[2]).decode().lower()]
    try:
        tokens = list(_tokens(value.decode("utf-8").replace("\r\n", "")))
    except UnicodeDecodeError as error:
        raise Malformed("not UTF-8") from error
    found: list[str] = []
    part: list[Token] = []
    in_group = angle = False
    for kind, text in tokens:
        if text == "<":
            angle = True
        elif text == ">":
            angle = False
        if kind != "special" or angle or text not in ",:;":
            part.append((kind, text))
        elif text == ":":  # what was read is the name of a group
            if in_group or not part or any(each[1] in "<>@" for each in part):
                raise Malformed("a colon out of place")
            in_group, part = True, []
        else:
            if text == ";" and not in_group:
                raise Malformed("a semicolon out of place")
            in_group = in_group and text == ","
            if part:
                found.append(_mailbox(part))
            part = []
    if in_group or angle:
        raise Malformed("not closed")
    if part:
        found.append(_mailbox(part))
    return found


def _tokens(text: str) -> Iterator[Token]:
    position, end = 0, len(text)
    while position < end:
        if text[position] == "(":
            position = _behind_comment(text, position)
            continue
        match = _TOKEN.match(text, position)
        if not match:
            raise Malformed(f"{text[position]!r} out of place")
        position = match.end()
        kind = str(match.lastgroup)
        if kind != "space":
            yield kind, match[0]


def _behind_comment(text: str, position: int) -> int:
    """Comments nest (RFC 5322 §3.2.2), as deep as anybody likes."""
    depth = 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == "(":
            depth += 1
        elif text[position] == ")":
            depth -= 1
            if not depth:
                return position + 1
        position += 1
    raise Malformed("a comment that does not end")


def _mailbox(tokens: Sequence[Token]) -> str:
    """One mailbox: an address, or an address in angle brackets behind a phrase."""
    texts = [text for _, text in tokens]
    if "<" not in texts:
        return _address(tokens)
    start = texts.index("<")
    if texts[-1] != ">" or texts.count("<") != 1 or texts.count(">") != 1:
        raise Malformed("brackets out of place")
    if any(text == "@" or kind == "literal" for kind, text in tokens[:start]):
        raise Malformed("an address that is no address")
    inner = list(tokens[start + 1 : -1])
    if inner and inner[0][1] == "@":  # a route, which is ignored (RFC 5322 §4.4)
        colons = [n for n, (_, text) in enumerate(inner) if text == ":"]
        if not colons:
            raise Malformed("a route that does not end")
        inner = inner[colons[0] + 1 :]
    return _address(inner)


def _address(tokens: Sequence[Token]) -> str:
    """local-part "@" domain, with white space and comments between (obs-local-part, obs-domain)."""
    ats = [n for n, (_, text) in enumerate(tokens) if text == "@"]
    if len(ats) != 1:
        raise Malformed("no address")
    local, domain = tokens[: ats[0]], tokens[ats[0] + 1 :]
    _must_alternate(local, ("atom", "quoted"))
    if len(domain) == 1 and domain[0][0] == "literal":
        name = domain[0][1].lower()
    else:
        _must_alternate(domain, ("atom",))
        try:
            name = to_ascii("".join(text for _, text in domain))
        except ValueError as error:
            raise Malformed(str(error)) from error
    plain = "".join(re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "quoted" else text for kind, text in local)
    return f"{local_part(plain)}@{name}".lower()


def local_part(text: str) -> str:
    """The local part that says this: in quotes where it needs them (RFC 5321 §4.1.2)."""
    return text if _PLAIN.match(text) else '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def unquoted(local: str) -> str:
    """What a local part says, which `local_part` writes."""
    return re.sub(r"\\(.)", r"\1", local[1:-1]) if local[:1] == local[-1:] == '"' else local


def _must_alternate(tokens: Sequence[Token], words: Sequence[str]) -> None:
    """Words, with a dot between each two."""
    if len(tokens) % 2 == 0 or not all(
        (kind in words) if n % 2 == 0 else text == "." for n, (kind, text) in enumerate(tokens)
    ):
        raise Malformed("no address")
