"""The delivery rules: which of them says where mail for another server goes (R-003-30)."""

from mailpods.directory.records import Route, Server
from mailpods.routing.patterns import matches_address


def of(server: Server, sender: str, recipient: str) -> Route | None:
    """The first rule that matches both, as far as it names them. `sender` is '' for the null sender."""
    for route in server.routes:
        if route.sender is not None and not matches_address(route.sender, sender):
            continue
        if route.recipient is None or matches_address(route.recipient, recipient):
            return route
    return None
