"""Where the header of a message ends, settled once when it is taken in, and what stands in it.

Readers differ about a line that is no field: to one the header ends there, another looks further, and a rule
about From that one of them obeys is passed by. After settle() there is nothing left to differ about: fields,
an empty line, and the body.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

# RFC 5322 §2.2, with white space before the colon (§4.5). Possessive: nothing is ever tried twice.
_FIELDS = re.compile(rb"(?:[!-9;-~]++[ \t]*+:[^\r\n]*+\r\n(?:[ \t][^\r\n]*+\r\n)*+)*+")
_MBOX = re.compile(rb">?From (?![ \t]*:)[^\r\n]*\r\n")
_VALUE = re.compile(rb"[ \t]*+:([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)\r\n")
HEADER_LIMIT = 1 << 20  # bytes


class HeaderTooLarge(ValueError):
    """A header of more than HEADER_LIMIT."""


def settle(pieces: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """The header of a message that came in pieces, and its body, which an empty line is to part.

    Each line of the header ends in CRLF and is a field or continues one. What is no field ends the header; a
    line `From ` or `>From ` of an mbox in front is dropped. Of a proper message no byte is changed: header,
    CRLF and body are what came. Raises HeaderTooLarge.
    """
    head, following = b"", 0
    while True:
        start = match.end() if (match := _MBOX.match(head)) else 0
        end = _FIELDS.match(head, start).end()  # type: ignore[union-attr]  # it matches nothing, too
        if head.find(b"\r\n", end) >= 0 or following == len(pieces):
            break
        if end > HEADER_LIMIT:
            raise HeaderTooLarge
        wanted = 2 * len(head)  # at least twice as much each time, so that nothing is looked at often
        more = []
        while following < len(pieces) and wanted >= 0:
            more.append(pieces[following])
            wanted -= len(pieces[following])
            following += 1
        head += b"".join(more)
    if end > HEADER_LIMIT:
        raise HeaderTooLarge
    rest = head[end:]
    if rest and following == len(pieces) and b"\r\n" not in rest:  # a last line without its end
        last = head[start:] + b"\r\n"
        if _FIELDS.fullmatch(last):
            return last, []
    body = rest.removeprefix(b"\r\n")
    return head[start:end], [*([body] if body else []), *pieces[following:]]


def _fields(header: bytes, name: str) -> Iterator[re.Match[bytes]]:
    """The fields of this name, from the end of the name on. Looked for as text: an expression that may begin
    at any line takes ten times as long, and each message is asked for several names."""
    wanted, lines = b"\n" + name.encode(), b"\n" + header.lower()
    at = lines.find(wanted)
    while at >= 0:
        if match := _VALUE.match(header, at + len(name)):
            yield match
        at = lines.find(wanted, at + 1)


def values(header: bytes, name: str) -> list[bytes]:
    """What stands behind the colon in each field of this name (in lower case), folded as it is, in order."""
    return [match[1] for match in _fields(header, name)]


def has(header: bytes, name: str) -> bool:
    """Whether there is a field of this name."""
    return next(_fields(header, name), None) is not None


def filtered(header: bytes, name: str, keep: Callable[[bytes], bool]) -> bytes:
    """The header without those fields of this name whose values are not to be kept."""
    for match in reversed(list(_fields(header, name))):
        if not keep(match[1]):
            header = header[: match.start() - len(name)] + header[match.end() :]
    return header


def without(header: bytes, names: Iterable[str]) -> bytes:
    """The header without the fields of these names."""
    for name in names:
        header = filtered(header, name, lambda value: False)
    return header


def hops(header: bytes) -> int:
    """How many servers the message has passed: its Received fields."""
    return len(values(header, "received"))
