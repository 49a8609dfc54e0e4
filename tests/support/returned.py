"""What other servers send back of mailings, in their words."""


def dsn(action: str, status: str, diagnostic: str) -> bytes:
    """A delivery report (RFC 3464)."""
    return (
        "From: MAILER-DAEMON@far.test\r\nTo: news@a.test\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.far.test\r\n\r\n"
        f"Final-Recipient: rfc822; user@far.test\r\nAction: {action}\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: smtp; {diagnostic}\r\n\r\n--b--\r\n"
    ).encode()


def feedback(kind: str, original: str, fields: str = "", part: str = "message/rfc822") -> bytes:
    """A feedback report (RFC 5965)."""
    return (
        "From: fbl@far.test\r\nTo: fbl@a.test\r\nSubject: complaint\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nA user complained.\r\n\r\n"
        "--b\r\nContent-Type: message/feedback-report\r\n\r\n"
        f"Feedback-Type: {kind}\r\nUser-Agent: x/1\r\nVersion: 1\r\n{fields}\r\n"
        f"--b\r\nContent-Type: {part}\r\n\r\n{original}\r\nFrom: news@a.test\r\n\r\nbuy\r\n--b--\r\n"
    ).encode()
