"""The pages: how to set up a mail program, and what to do when it fails."""

from html import escape

from mailpods.directory.guide import Guide

# Base64 makes four bytes of three, in lines of 76 and two for their end (RFC 2045 §6.8).
_GROWTH = 4 / 3 * 78 / 76
_REST = 100_000  # bytes for headers and for what else a message says
_MEGABYTE = 1_000_000

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Mail at {hostname}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: left; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #ccc; }}
code {{ white-space: nowrap; }}
</style>
<main>
<h1>Mail at {hostname}</h1>

<h2 id="settings">Settings for your mail program</h2>
<p>The server is <code>{hostname}</code> for all of it. User name and password are those of your mailbox,
for reading and for sending: say that the outgoing server requires authentication, with the same settings
as the incoming one.</p>
<table>
<tr><th>for</th><th>port</th><th>encryption</th></tr>
<tr><td>reading by IMAP, recommended</td><td>143</td><td>STARTTLS</td></tr>
<tr><td>reading by IMAP</td><td>993</td><td>TLS</td></tr>
<tr><td>reading by POP3</td><td>110</td><td>STARTTLS</td></tr>
<tr><td>reading by POP3</td><td>995</td><td>TLS</td></tr>
<tr><td>sending, recommended</td><td>587</td><td>STARTTLS</td></tr>
<tr><td>sending</td><td>465</td><td>TLS</td></tr>
<tr><td>sending</td><td>25</td><td>STARTTLS</td></tr>
{bulk_rows}</table>
<p>{tls}</p>

<h2 id="imap-or-pop3">IMAP or POP3</h2>
<p>With IMAP, mail stays on the server: each of your devices shows the same mail and the same folders, and
all of it needs space there. With POP3, mail moves to one device, which usually removes it from the
server: little space is needed, there are no folders, and other devices do not see it. You can change from
one to the other at any time; the mailbox stays the same.</p>

<h2 id="sending">When sending is refused</h2>
<p><code>550 relay not permitted</code> means that your mail program did not say who you are. The server
asks for your password a second time when you send, so that no stranger can send mail in your name. Switch
authentication on for the outgoing server, with the user name and the password of your mailbox.</p>
<p>If it fails all the same, switch your virus scanner and the firewall of your computer off for a moment
and try again: some of them stand between mail program and server. Switch them on again whatever comes of
it; if it worked without them, mail has to be allowed in their settings.</p>

<h2 id="size">How large a message may be</h2>
<p>A message may have {limit} MB, with everything that is attached to it. Attachments grow by more than a
third on their way, since mail carries text alone: keep what you attach to a message below
<strong>{usable} MB</strong> altogether. The limit is the same for all mailboxes.</p>

<h2 id="mass">Newsletters and other mass mailings</h2>
<p>Newsletters, notifications of a forum, mailing lists and the like go to people who asked for them.
{mass}</p>
{certificate}</main>
</html>
"""
_BULK_ROWS = """<tr><td>sending mass mailings, recommended</td><td>4587</td><td>STARTTLS</td></tr>
<tr><td>sending mass mailings</td><td>1465</td><td>TLS</td></tr>
<tr><td>sending mass mailings</td><td>4025</td><td>STARTTLS</td></tr>
"""
_MASS = (
    "Please send them over the ports for mass mailings above, with the same login: they leave from an "
    "address of their own, and everybody's letters keep the good name of the other one."
)
_NO_MASS = "This server has no ports for them; please ask before you send any."
_ENCRYPTED = "Without encryption the server takes no login."
_CLEAR = "The ports with STARTTLS take logins without encryption, too; with it nobody can read along."
_CERTIFICATE = """
<h2 id="certificate">The server's certificate</h2>
<p>It is signed by an authority of our own. Before you switch encryption on, download <a href="/ca.crt"
download="{hostname}.crt">its certificate</a>, open the file by a double click and let your computer trust
it for servers; then your mail program knows whom it speaks to.</p>
"""


def usable_bytes(limit: int) -> int:
    """How large attachments may be together in a message of at most so many bytes (R-002-20)."""
    return max(0, int((limit - _REST) / _GROWTH))


def page(guide: Guide, authority: bool) -> str:
    """All that there is to say. `authority`: the certificate of the server's own authority can be had."""
    hostname = escape(guide.hostname)
    return _PAGE.format(
        hostname=hostname,
        limit=_megabytes(guide.max_message_bytes),
        usable=_megabytes(usable_bytes(guide.max_message_bytes)),
        bulk_rows=_BULK_ROWS if guide.bulk else "",
        mass=_MASS if guide.bulk else _NO_MASS,
        tls=_ENCRYPTED if guide.tls_required else _CLEAR,
        certificate=_CERTIFICATE.format(hostname=hostname) if authority else "",
    )


def _megabytes(size: int) -> str:
    """Rounded down: what is said to fit has to."""
    return str(size // _MEGABYTE) if size >= 10 * _MEGABYTE else f"{size // (_MEGABYTE // 10) / 10:.1f}"
