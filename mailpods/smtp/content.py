"""Takes in the text of a message in bulk: where DATA ends, which bytes a chunk of BDAT owns, and whether the
text is what RFC 5321 §2.3.8 allows. Everything works on whole chunks: one call per line would cost the
throughput of the whole program.

A message that breaks a rule is read to its true end and refused there. The text behind a forged end
(`\\n.\\n`, `\\r.\\r`, `\\r\\n.\\n` …) is therefore never read as commands, nor handed on as it is.
"""

from mailpods.refusal import Refusal

# Octets without CRLF. RFC 5321 §4.5.3.1.6 promises 998, but large providers send longer ones: only what no
# program could mean is refused. Who passes a message on to a server that takes no more sees to it.
LINE_LIMIT = 1 << 20

BARE = Refusal(554, "5.6.0", "Message has a bare CR or LF: lines must end in CRLF", "bare-newline")
LONG = Refusal(554, "5.6.0", f"Message has a line over {LINE_LIMIT} octets", "line-length")
NUL = Refusal(554, "5.6.0", "Message has a NUL octet", "nul")  # RFC 5322 §2.3 and §3.1
_END = b"\r\n.\r\n"
_DOT = _END[:3]


class MessageContent:
    """Collects text that arrives in pieces of any length, and checks it piece by piece.

    `limit` is in bytes; of a message that cannot be taken nothing is kept, only counted. `mend`: lines that
    end in LF or CR alone get a CRLF, and are refused otherwise.
    """

    def __init__(self, limit: int, mend: bool = False) -> None:
        self.size = 0  # bytes that arrived, kept or not
        self.kept = 0  # bytes in `pieces`
        self.problem: Refusal | None = None
        self.pieces: list[bytes] = []
        self._limit = limit
        self._mend = mend
        self._held = b""  # a CR at the end of a piece: the next one says whether it is bare
        self._line = 0  # octets of the line that is not at its end yet

    def add(self, piece: bytes) -> None:
        """Take in the next piece."""
        self.size += len(piece)
        if self.problem or self.size > self._limit:
            self._forget()
            return
        if self._held:
            piece, self._held = self._held + piece, b""
        if piece.endswith(b"\r"):
            piece, self._held = piece[:-1], b"\r"
        if not piece.count(b"\r\n") == piece.count(b"\n") == piece.count(b"\r"):
            if not self._mend:
                self.fail(BARE)
                return
            piece = _mended(piece)
        if b"\0" in piece:
            self.fail(NUL)
        elif not self._lines_fit(piece):
            self.fail(LONG)
        else:
            self.pieces.append(piece)
            self.kept += len(piece)

    def end(self) -> None:
        """No further piece comes."""
        if self._held and not self.problem:
            if self._mend:
                self.pieces.append(b"\r\n")
            else:
                self.fail(BARE)

    def drop_last_dot(self) -> bool:
        """Take away a last line that is a dot alone, whose CRLF is held back. Whether there was one."""
        if not self._mend or self.problem or b"".join(self.pieces[-3:])[-3:] != b"\r\n.":
            return False
        self.pieces[-1] = self.pieces[-1][:-1]
        self.kept -= 1
        return True

    def fail(self, problem: Refusal) -> None:
        """Keep nothing of this message: it will be refused."""
        self.problem = problem
        self._forget()

    def _forget(self) -> None:
        self.pieces.clear()
        self.kept = 0

    def _lines_fit(self, piece: bytes) -> bool:
        """Jump from line end to line end, one limit at a time: a few searches, however many lines."""
        length, limit = len(piece), LINE_LIMIT + 2
        start = -self._line
        while True:
            end = piece.rfind(b"\n", max(start, 0), max(start + limit, 0))
            if end < 0:
                self._line = length - start
                return self._line <= LINE_LIMIT
            start = end + 1


def _mended(piece: bytes) -> bytes:
    """CRLF, LF and CR each end a line. (A CR at the end of a piece was held back.)"""
    return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


class Data:
    """The text behind DATA (RFC 5321 §4.1.1.4), with the transparent dots of §4.5.2 removed."""

    def __init__(self, text: MessageContent) -> None:
        self.text = text
        self._pending = b"\r\n"  # as if a line had just ended: the text may begin with its end, or a dot
        self._skip = 2  # … which belongs to no message

    def feed(self, chunk: bytes) -> bytes | None:
        """Take in a chunk. Returns what lies behind the end of the text, or None if that is yet to come."""
        data = self._pending + chunk
        dot = data.find(_DOT)  # most chunks have no line that begins with one: a single search says so
        end = data.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            self._take(data[: end + 2], dot < end)
            self.text.end()
            return data[end + 5 :]
        held = next((n for n in (4, 3, 2, 1) if data.endswith(_END[:n])), 0)  # may be the beginning of an end
        cut = len(data) - held
        self._take(data[:cut], dot >= 0)
        self._pending = data[cut:]
        return None

    def end_by_silence(self) -> bool:
        """End the text if its last line is a dot alone behind a bare LF or CR, and lines are mended."""
        if self._pending != b"\r\n" or not self.text.drop_last_dot():
            return False
        self.text.end()
        return True

    def _take(self, region: bytes, dotted: bool) -> None:
        if region:
            if dotted:
                region = region.replace(_DOT, b"\r\n")
            self.text.add(region[self._skip :])
            self._skip = 0


class Chunk:
    """The octets of one BDAT command (RFC 3030 §2); the text goes on over several of them."""

    def __init__(self, text: MessageContent, octets: int) -> None:
        self.text = text
        self._missing = octets

    def feed(self, chunk: bytes) -> bytes | None:
        """As Data.feed()."""
        if len(chunk) < self._missing:
            self._missing -= len(chunk)
            self.text.add(chunk)
            return None
        self.text.add(chunk[: self._missing])
        return chunk[self._missing :]
