"""What a reply means, in classes that have names: for metrics, for people, and for suppression."""

import re
from collections.abc import Sequence

from mailpods.delivery.client.replies import Reply

# The first that matches decides. Enhanced codes are those of RFC 3463 and its registry; servers give wrong
# ones often enough that the reply's words are asked first where they are clear. A new class is one line.
_CLASSES: Sequence[tuple[str, re.Pattern[str]]] = [
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        ("suppressed", r"on the suppression list"),
        ("fault", r"a fault of ours"),
        ("greylisted", r"gr[ea]y.?list"),
        ("rate", r"rate.?limit|too (many|much|fast)|throttl|4\.7\.28|5\.7\.28|4\.7\.32"),
        ("spam", r"\bspam\b|blacklist|block.?list|\brbl\b|dnsbl|reputation|5\.7\.(350|51\d)"),
        ("mailbox-full", r"[45]\.2\.2|mailbox.*full|over.?quota|quota exceeded"),
        ("size", r"[45]\.(2\.3|3\.4)|too large|exceeds.*size"),
        ("login", r"[45]\.7\.8|authentication (failed|credentials)"),
        (
            "unknown-recipient",
            r"[45]\.1\.(1|2|10)\b|user unknown|no such (user|mailbox)|unknown user",
        ),
        ("mailbox-disabled", r"[45]\.2\.1|mailbox (is )?(disabled|inactive)"),
        ("authenticity", r"[45]\.7\.(2[0-7])|\b(spf|dkim|dmarc)\b"),
        ("tls", r"4\.7\.5|starttls|certificate"),
        ("dns", r"DNS gives no answer|[45]\.4\.[34]\b"),
        ("connection", r"4\.4\.[12]\b"),
        ("expired", r"[45]\.4\.7\b"),
        ("loop", r"[45]\.4\.6\b"),
        ("policy", r"[45]\.7\.\d+"),
    )
]


PERMANENT, TEMPORARY = "permanent", "temporary"
NAMES = (*(name for name, _ in _CLASSES), PERMANENT, TEMPORARY)


def of(reply: Reply) -> str:
    """The class of a reply that is not positive."""
    return of_text(str(reply))


def of_text(reply: str) -> str:
    """The same of a reply as the spool keeps it: code and text."""
    for name, pattern in _CLASSES:
        if pattern.search(reply):
            return name
    return PERMANENT if reply.startswith("5") else TEMPORARY
