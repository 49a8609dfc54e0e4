"""What a message needs of a server, by its content and not by what its client said of it; and 7-bit forms."""

import email
import email.generator
import io
import quopri
from base64 import encodebytes
from email.header import Header
from email.message import Message
from email.policy import compat32

_POLICY = compat32.clone(linesep="\r\n", max_line_length=0)


def header_of(body: bytes) -> bytes:
    """All up to the empty line."""
    end = body.find(b"\r\n\r\n")
    return body if end < 0 else body[: end + 2]


def needs_utf8(sender: str, recipients: list[str], body: bytes) -> bool:
    """Whether it is of RFC 6531: an address or the header holds something beyond ASCII."""
    return not (sender.isascii() and all(map(str.isascii, recipients)) and header_of(body).isascii())


def seven_bit(body: bytes) -> bytes | None:
    """The message for a server that takes ASCII alone (RFC 6152 §3); None where its parts may not change."""
    try:
        message = email.message_from_bytes(body, policy=_POLICY)
        for part in message.walk():
            if part.get_content_type() == "multipart/signed":
                return None
            _encode_header(part)
            if not part.is_multipart():
                _encode_body(part)
        out = io.BytesIO()
        email.generator.BytesGenerator(out, mangle_from_=False, maxheaderlen=0, policy=_POLICY).flatten(
            message
        )
    except Exception:  # what people call MIME
        return None
    made = out.getvalue()
    return made if made.isascii() else None


def _encode_header(part: Message) -> None:
    fields = [(name, str(value).encode("ascii", "surrogateescape")) for name, value in part.raw_items()]
    if all(value.isascii() for _, value in fields):
        return
    for name, _ in fields:
        del part[name]
    for name, value in fields:
        text = value.decode("utf-8", "replace")
        part[name] = text if value.isascii() else Header(text, "utf-8").encode()


def _encode_body(part: Message) -> None:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes) or data.isascii():
        return
    is_text = part.get_content_maintype() == "text"
    encoded = quopri.encodestring(data.replace(b"\r\n", b"\n")) if is_text else encodebytes(data)
    if part.get_content_maintype() == "text" and "Content-Type" not in part:
        part["Content-Type"] = "text/plain; charset=utf-8"
    del part["Content-Transfer-Encoding"]
    part["Content-Transfer-Encoding"] = "quoted-printable" if is_text else "base64"
    if "MIME-Version" not in part:
        part["MIME-Version"] = "1.0"
    part.set_payload(encoded.decode("ascii"))
