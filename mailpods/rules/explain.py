"""Answers beforehand what would become of a message, and why: by the rules that judge messages."""

from collections.abc import Callable, Mapping
from ipaddress import ip_address

from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import AccountId, Address
from mailpods.dns.names import Names
from mailpods.dns.resolver import Resolver
from mailpods.refusal import Refusal
from mailpods.routing.router import Router
from mailpods.rules import chains, lookups
from mailpods.rules.context import PolicyContext
from mailpods.rules.settings import Settings

QUESTION = ("from", "client", "helo", "login", "port")  # beside the address: who would send it, and how


async def explain(
    reader: DirectoryReader, dns: Callable[[], Resolver], router: Router, query: Mapping[str, str]
) -> list[str]:
    """Lines for people. `query`: `address` is the recipient; any of QUESTION ask about a client's message.

    Raises ValueError for a question that makes no sense.
    """
    address = query.get("address", "")
    if not address:
        raise ValueError("say which: ?address=")
    if not any(query.get(key) for key in QUESTION):
        return router.explain(address)
    server = reader.server
    if server is None:
        raise ValueError("no directory yet: ask again in a moment")
    context = _context(Settings(server), query)
    if context.account and reader.account(context.account) is None:
        raise ValueError(f"login {context.account} is no account: write number/local part, e.g. 7/info")
    context.recipient = Address(address.lower())
    if context.account and context.sender:
        context.sender_is_own = router.owns(context.account, Address(context.sender.lower()))
    await lookups.look_up(context, Names(dns))
    lookups.consult_lists(context)
    context.outcome = router.route(Address(address.lower()), context.may_relay)
    lines = [_client(context)]
    for command, rules in (("MAIL FROM", chains.MAIL), ("RCPT TO", chains.RECIPIENT)):
        if refusal := chains.first(rules, context):
            rule = f" (rule {refusal.rule!r})" if refusal.rule else ""
            return [*lines, f"{command}: refused, {refusal.reason}{rule}: {refusal}"]
    if context.listed:
        lines.append(f"rule {context.listed.name!r} of the lists: {context.listed.action}")
        if context.listed.action == "discard":
            return [*lines, "taken, and thrown away"]
    assert not isinstance(context.outcome, Refusal)
    return [*lines, "accepted", *router.explain(address, context.sender)]


def _context(settings: Settings, query: Mapping[str, str]) -> PolicyContext:
    client, port = query.get("client") or "", query.get("port") or "smtp"
    if client:
        ip_address(client)  # raises ValueError, which says what it is not
    if port not in ("smtp", "submission"):
        raise ValueError(f"port {port!r} is neither smtp nor submission")
    login = query.get("login")
    return PolicyContext(
        settings,
        client,
        settings.is_lan(client),
        settings.is_trusted(client),
        submission=port == "submission",
        helo=query.get("helo") or "client.invalid",
        account=AccountId(login) if login else None,
        sender=(query.get("from") or "").removeprefix("<>"),
    )


def _client(context: PolicyContext) -> str:
    known = [word for word, holds in (("of the LAN", context.lan), ("trusted", context.trusted)) if holds]
    if context.account:
        known.append(f"logged in as {context.account}")
    may = "may" if context.may_relay else "may not"
    who = ", ".join([context.ip or "no address given", *(known or ["a stranger"])])
    name = f", named {context.client_name}" if context.client_name else ""
    return f"client {who}{name}: {may} send to other servers"
