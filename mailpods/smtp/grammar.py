"""The arguments of MAIL, RCPT (RFC 5321 §4.1.1.2 and §4.1.1.3) and BDAT (RFC 3030 §2): paths, parameters,
sizes. Expressions without recursion: whatever the world sends takes time that grows with its length alone."""

import re
from dataclasses import dataclass, field

from mailpods.directory.idn import to_ascii

_ATOM = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~-"
_LOCAL = rf"[{_ATOM}]+(?:\.[{_ATOM}]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
# Nearly every path has this form.
_COMMON = re.compile(rf"<({_LOCAL}@{_LABEL}(?:\.{_LABEL})*|)>(?: +(.*))?\Z")
# RFC 6531 §3.3: beside the C1 controls, which nobody needs, and what is no UTF-8, all that is not ASCII.
_WIDE = "\u00a0-\ud7ff\ue000-\U0010ffff"
_DOMAIN = rf"[A-Za-z0-9{_WIDE}](?:[A-Za-z0-9.{_WIDE}-]*[A-Za-z0-9{_WIDE}])?"
_UNCOMMON = re.compile(
    rf"<(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?"  # a source route, which is ignored (RFC 5321 §4.1.1.3)
    rf"(?:([{_WIDE}{_ATOM}]+(?:\.[{_WIDE}{_ATOM}]+)*)|\"((?:[ !#-\[\]-~{_WIDE}]|\\[ -~])*)\")"
    rf"@({_DOMAIN}|\[[A-Za-z0-9.:-]+\])>(?: +(.*))?\Z"
)
_POSTMASTER = re.compile(r"<postmaster>(?: +(.*))?\Z", re.IGNORECASE)
_PLAIN_LOCAL = re.compile(rf"[{_WIDE}{_ATOM}]+(?:\.[{_WIDE}{_ATOM}]+)*\Z")
_ASCII_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?\Z")
_CHUNK = re.compile(r"([0-9]{1,20})( +LAST)? *\Z", re.IGNORECASE)
MALFORMED = "501 5.1.3 Malformed address"


class Malformed(ValueError):
    """The argument is not in the grammar; the message is the reply's text with its enhanced code."""


@dataclass(slots=True)
class Path:
    """A path's address and the parameters behind it, names in upper case.

    `address` is '' for <>, and "postmaster" for that word alone; its domain is in A-labels. `utf8`: the
    client wrote it with others than ASCII characters.
    """

    address: str
    parameters: dict[str, str] = field(default_factory=dict)
    utf8: bool = False


def parse(keyword: str, argument: str) -> Path:
    """The path of `FROM:<…> …` or `TO:<…> …`. Raises Malformed."""
    if argument[: len(keyword)].upper() != keyword:
        raise Malformed(f"501 5.5.4 Syntax: {keyword}<address>")
    rest = argument[len(keyword) :].lstrip(" ")  # a space behind the colon is common enough
    match = _COMMON.match(rest)
    if match:
        address, parameters = match.groups()
        utf8 = False
    else:
        address, parameters, utf8 = _uncommon(rest)
    local, _, domain = address.rpartition("@")
    if len(local.encode()) > 64 or len(domain) > 253:
        raise Malformed("501 5.1.3 Address too long")
    return Path(address, _parameters(parameters) if parameters else {}, utf8)


def chunk(argument: str) -> tuple[int, bool]:
    """How many octets a BDAT announces, and whether they are the last. Raises Malformed."""
    match = _CHUNK.match(argument)
    if not match:
        raise Malformed("501 5.5.4 Syntax: BDAT octets [LAST]")
    return int(match[1]), match[2] is not None


def _uncommon(text: str) -> tuple[str, str | None, bool]:
    """Quoted local parts, address literals, source routes, non-ASCII addresses, <Postmaster>."""
    if not text.startswith("<"):
        raise Malformed("501 5.1.3 Addresses stand in angle brackets")
    if match := _POSTMASTER.match(text):
        return "postmaster", match[1], False
    match = _UNCOMMON.match(text)
    if not match:
        raise Malformed(MALFORMED)
    plain, quoted, domain, parameters = match.groups()
    local = plain if plain is not None else _unquoted(quoted)
    utf8 = not (local.isascii() and domain.isascii())
    try:
        domain = domain if domain.isascii() else to_ascii(domain)
    except ValueError:
        raise Malformed("501 5.1.3 Malformed domain") from None
    if not (domain.startswith("[") or _ASCII_DOMAIN.match(domain)):
        raise Malformed("501 5.1.3 Malformed domain")
    return f"{local}@{domain}", parameters, utf8


def _unquoted(text: str) -> str:
    """What a quoted string means: without its quotes where it needs none (RFC 5321 §4.1.2)."""
    plain = re.sub(r"\\(.)", r"\1", text)
    if _PLAIN_LOCAL.match(plain):
        return plain
    return '"' + re.sub(r'(["\\])', r"\\\1", plain) + '"'


def _parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in text.split():
        match = _PARAMETER.match(word)
        if not match or match[1].upper() in found:
            raise Malformed("501 5.5.4 Malformed parameter")
        found[match[1].upper()] = match[2] or ""
    return found
