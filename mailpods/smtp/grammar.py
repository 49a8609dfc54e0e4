"""The arguments of MAIL and RCPT (RFC 5321 §4.1.1.2 and §4.1.1.3): paths and parameters."""

import re
from dataclasses import dataclass, field

from aiosmtpd.smtp import SMTP

_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
# Nearly every path has this form; the grammar of the e-mail package costs a hundred times as much.
_COMMON = re.compile(rf"<({_LOCAL}@{_LABEL}(?:\.{_LABEL})*|)>(?: +(.*))?\Z")
_LITERAL = re.compile(r"\[[A-Za-z0-9.:-]+\]\Z")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?\Z")
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_grammar = SMTP._getaddr  # uses nothing of a session but its limits


class Malformed(ValueError):
    """The argument is not in the grammar; the message is the reply's text with its enhanced code."""


@dataclass(frozen=True, slots=True)
class Path:
    """A path's address ('' for <>) as given, and the parameters behind it, names in upper case."""

    address: str
    parameters: dict[str, str] = field(default_factory=dict)


class _Limits:
    local_part_limit = 64  # octets, RFC 5321 §4.5.3.1.1


def parse(keyword: str, argument: str) -> Path:
    """The path of `FROM:<…> …` or `TO:<…> …`. Raises Malformed."""
    if argument[: len(keyword)].upper() != keyword:
        raise Malformed(f"501 5.5.4 Syntax: {keyword}<address>")
    rest = argument[len(keyword) :].lstrip(" ")  # a space behind the colon is common enough
    match = _COMMON.match(rest)
    if match:
        address, parameters = match.groups()
    else:
        address, parameters = _uncommon(rest)
    local, _, domain = address.rpartition("@")
    if len(local.encode("utf-8", "surrogateescape")) > 64 or len(domain) > 253:
        raise Malformed("501 5.1.3 Address too long")
    return Path(address, _parameters(parameters) if parameters else {})


def _uncommon(text: str) -> tuple[str, str | None]:
    """Quoted local parts, address literals, source routes (ignored), non-ASCII addresses, <Postmaster>."""
    if not text.startswith("<"):
        raise Malformed("501 5.1.3 Addresses stand in angle brackets")
    if text.lower().startswith("<postmaster>"):
        return "postmaster", text[12:].strip()
    if any(
        ord(character) < 32 or character == "\x7f" or "\udc80" <= character <= "\udcff" for character in text
    ):
        raise Malformed("501 5.1.3 Malformed address")
    try:
        address, parameters = _grammar(_Limits(), text)  # type: ignore[arg-type]
    except (IndexError, ValueError, AttributeError):  # the parser's own failings on hostile input
        address = parameters = None
    if not address:
        raise Malformed("501 5.1.3 Malformed address")
    local, _, domain = address.rpartition("@")
    if not local or not domain:
        raise Malformed("501 5.1.3 Malformed address")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode()
        except UnicodeError:
            raise Malformed("501 5.1.3 Malformed domain") from None
    if not (_DOMAIN.match(domain) or _LITERAL.match(domain)):
        raise Malformed("501 5.1.3 Malformed domain")
    return f"{local}@{domain}", parameters.strip() if parameters else None


def _parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in text.split():
        match = _PARAMETER.match(word)
        if not match or match[1].upper() in found:
            raise Malformed("501 5.5.4 Malformed parameter")
        found[match[1].upper()] = match[2] or ""
    return found
