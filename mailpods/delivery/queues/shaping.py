"""What large providers take from one client at a time; RelayPolicies say otherwise, and more."""

from collections.abc import Iterable

from mailpods.directory.records import Shape
from mailpods.routing.patterns import matches_name

# By the names of mail servers, from what providers publish and answer: more is refused, less is slow.
SHIPPED = (
    Shape("google", "*.google.com", connections=10, messages=100),
    Shape("google", "*.googlemail.com", connections=10, messages=100),
    Shape("microsoft", "*.mail.protection.outlook.com", connections=10, messages=50),
    Shape("microsoft", "*.olc.protection.outlook.com", connections=10, messages=50),
    Shape("yahoo", "*.yahoodns.net", connections=5, messages=20),
    Shape("apple", "*.icloud.com", connections=5, messages=50),
    Shape("gmx", "*.gmx.net", connections=5, messages=50),
    Shape("web.de", "*.web.de", connections=5, messages=50),
    Shape("t-online", "*.t-online.de", connections=5, messages=50),
)


def of(hosts: Iterable[str], rules: Iterable[Shape]) -> Shape | None:
    """The first rule that is about one of these mail servers; those of policies before the shipped ones."""
    names = list(hosts)
    for rule in (*rules, *SHIPPED):
        if any(matches_name(rule.mx, name) for name in names):
            return rule
    return None
