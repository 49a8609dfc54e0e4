"""What a client may say when, apart from whoever carries it: a command in, a reply or an action out.

Pure: no socket, no rules, no clock. Who runs it carries an action out, and tells it what came of that: a
transaction stands only after began(), a recipient counts only after took_recipient().
"""

from collections.abc import Callable
from dataclasses import dataclass

from mailpods.smtp.grammar import Malformed, Path, chunk, parse

OK = b"250 2.0.0 Ok\r\n"
NO_RECIPIENTS = b"554 5.5.1 No valid recipients\r\n"
NO_TRANSACTION = b"503 5.5.1 MAIL first\r\n"
BYE = b"221 2.0.0 Bye\r\n"
_BETWEEN_CHUNKS = frozenset(("BDAT", "RSET", "NOOP", "QUIT"))  # RFC 3030 §2
# The last commands of a group (RFC 2920 §3.1): what stands behind them was sent before its turn.
LAST_OF_GROUP = frozenset(("HELO", "EHLO", "DATA", "VRFY", "AUTH", "STARTTLS", "NOOP", "QUIT"))


@dataclass(slots=True)
class Say:
    """Reply this; nothing else follows from the command."""

    reply: bytes


@dataclass(slots=True)
class Misuse:
    """The client broke the protocol: reply this, and count it by its reason."""

    reply: bytes
    reason: str


@dataclass(slots=True)
class Hello:
    """HELO, or EHLO where `esmtp`. What went before is forgotten."""

    name: str
    esmtp: bool


@dataclass(slots=True)
class Mail:
    """Begin a transaction, if the rules let it. `size` is what was announced, in bytes."""

    sender: str
    size: int = 0
    eight_bit: bool = False
    utf8: bool = False


@dataclass(slots=True)
class Rcpt:
    """Add a recipient, if the rules let it."""

    address: str  # "postmaster" alone for that of the server


@dataclass(slots=True)
class ReadData:
    """Read message text up to its final dot."""


@dataclass(slots=True)
class ReadChunk:
    """Read so many octets of message text. Unwanted ones come all the same (RFC 3030 §2): they are read, and
    `refusal` is said behind them."""

    octets: int
    last: bool
    refusal: Misuse | None = None


@dataclass(slots=True)
class Authenticate:
    """AUTH with this argument."""

    argument: str


@dataclass(slots=True)
class StartTls:
    """Begin TLS, if there is a certificate."""


@dataclass(slots=True)
class Verify:
    """VRFY."""


@dataclass(slots=True)
class Reset:
    """Forget the transaction."""


@dataclass(slots=True)
class HangUp:
    """Reply this, and close."""

    reply: bytes
    reason: str = ""  # of a misuse


Action = (
    Say
    | Misuse
    | Hello
    | Mail
    | Rcpt
    | ReadData
    | ReadChunk
    | Authenticate
    | StartTls
    | Verify
    | Reset
    | HangUp
)


class Machine:
    """The state of one session."""

    __slots__ = ("authenticated", "chunks", "esmtp", "mail", "recipients", "tls")

    def __init__(self, tls: bool = False) -> None:
        self.esmtp = False
        self.tls = tls
        self.authenticated = False
        self.mail: Mail | None = None  # the transaction
        self.recipients = 0  # of it
        self.chunks = False  # its text has begun to come by BDAT

    def command(self, verb: str, argument: str) -> Action:
        """What a command asks for; `verb` is in upper case."""
        handler = _COMMANDS.get(verb)
        if handler is None:
            return Misuse(b"500 5.5.1 Command unknown\r\n", "unknown-command")
        if self.chunks and verb not in _BETWEEN_CHUNKS:
            return Misuse(b"503 5.5.1 Now BDAT, RSET, NOOP or QUIT\r\n", "sequence")
        try:
            return handler(self, argument)
        except Malformed as error:
            return Misuse(f"{error}\r\n".encode(), "syntax")

    # --- what came of an action

    def said_hello(self, esmtp: bool) -> None:
        """The client was greeted by its name."""
        self.reset()
        self.esmtp = esmtp

    def began(self, mail: Mail) -> None:
        """The transaction stands."""
        self.mail, self.recipients, self.chunks = mail, 0, False

    def took_recipient(self) -> None:
        """It has one recipient more."""
        self.recipients += 1

    def reset(self) -> None:
        """The transaction is over, or forgotten."""
        self.mail, self.recipients, self.chunks = None, 0, False

    def started_tls(self) -> None:
        """TLS is on: nothing that was said before counts (RFC 3207 §4.2)."""
        self.reset()
        self.esmtp, self.tls, self.authenticated = False, True, False

    # --- commands

    def _helo(self, argument: str) -> Action:
        return self._hello(argument, esmtp=False)

    def _ehlo(self, argument: str) -> Action:
        return self._hello(argument, esmtp=True)

    def _hello(self, argument: str, esmtp: bool) -> Action:
        if not argument or not argument.isprintable() or " " in argument:
            return Misuse(b"501 5.5.4 Say your host name\r\n", "syntax")
        return Hello(argument, esmtp)

    def _mail(self, argument: str) -> Action:
        if self.mail:
            return Misuse(b"503 5.5.1 MAIL was said already\r\n", "sequence")
        path = parse("FROM:", argument)
        if path.parameters and not self.esmtp:
            raise Malformed("555 5.5.4 Parameters need EHLO")
        mail = _mail_of(path)
        if path.utf8 and not mail.utf8:
            raise Malformed("553 5.6.7 Non-ASCII address without SMTPUTF8")
        if path.address == "postmaster":
            raise Malformed("501 5.1.7 The sender needs a domain")
        return mail

    def _rcpt(self, argument: str) -> Action:
        if not self.mail:
            return Misuse(NO_TRANSACTION, "sequence")
        path = parse("TO:", argument)
        if not path.address:
            raise Malformed("501 5.1.3 A recipient needs an address")
        if path.parameters:
            raise Malformed(f"555 5.5.4 {next(iter(path.parameters))} is not understood")
        if path.utf8 and not self.mail.utf8:
            raise Malformed("553 5.6.7 Non-ASCII address without SMTPUTF8")
        return Rcpt(path.address)

    def _data(self, argument: str) -> Action:
        if not self.mail:
            return Misuse(NO_TRANSACTION, "sequence")
        if argument:
            return Misuse(b"501 5.5.4 DATA takes no argument\r\n", "syntax")
        return ReadData() if self.recipients else Misuse(NO_RECIPIENTS, "sequence")

    def _bdat(self, argument: str) -> Action:
        try:
            octets, last = chunk(argument)
        except Malformed as error:  # how much text follows cannot be known
            return HangUp(f"{error}\r\n".encode(), "syntax")
        if not self.mail:
            return ReadChunk(octets, last, Misuse(NO_TRANSACTION, "sequence"))
        if not self.recipients:
            return ReadChunk(octets, last, Misuse(NO_RECIPIENTS, "sequence"))
        self.chunks = True
        return ReadChunk(octets, last)

    def _rset(self, argument: str) -> Action:
        return Reset()

    def _noop(self, argument: str) -> Action:
        return Say(OK)

    def _help(self, argument: str) -> Action:
        return Say(_HELP)

    def _vrfy(self, argument: str) -> Action:
        return Verify()

    def _quit(self, argument: str) -> Action:
        return HangUp(BYE)

    def _auth(self, argument: str) -> Action:
        if not self.esmtp:
            return Misuse(b"503 5.5.1 EHLO first\r\n", "sequence")
        if self.authenticated or self.mail:
            return Misuse(b"503 5.5.1 Not now\r\n", "sequence")
        return Authenticate(argument)

    def _starttls(self, argument: str) -> Action:
        if argument:
            return Misuse(b"501 5.5.4 STARTTLS takes no argument\r\n", "syntax")
        if self.tls:
            return Misuse(b"503 5.5.1 TLS is on already\r\n", "sequence")
        return StartTls()


def _mail_of(path: Path) -> Mail:
    """What MAIL's parameters ask for. Raises Malformed."""
    if not path.parameters:
        return Mail(path.address)
    size, eight_bit, utf8 = 0, False, False
    for name, value in path.parameters.items():
        if name == "SIZE":
            if not (value.isascii() and value.isdecimal() and len(value) <= 20):
                raise Malformed("501 5.5.4 SIZE is a number of bytes")
            size = int(value)
        elif name == "BODY" and value.upper() in ("7BIT", "8BITMIME"):
            eight_bit = value.upper() == "8BITMIME"
        elif name == "SMTPUTF8" and not value:
            utf8 = True
        elif name == "AUTH" and value:
            pass  # RFC 4954 §5: to be understood; nobody is trusted to vouch for another
        else:
            raise Malformed(f"555 5.5.4 {name} is not understood")
    return Mail(path.address, size, eight_bit, utf8)


_COMMANDS: dict[str, Callable[[Machine, str], Action]] = {
    "HELO": Machine._helo,
    "EHLO": Machine._ehlo,
    "MAIL": Machine._mail,
    "RCPT": Machine._rcpt,
    "DATA": Machine._data,
    "BDAT": Machine._bdat,
    "RSET": Machine._rset,
    "NOOP": Machine._noop,
    "HELP": Machine._help,
    "VRFY": Machine._vrfy,
    "QUIT": Machine._quit,
    "AUTH": Machine._auth,
    "STARTTLS": Machine._starttls,
}
_HELP = f"214 2.0.0 {' '.join(sorted(_COMMANDS))}\r\n".encode()
