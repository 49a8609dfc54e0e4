"""Answers beforehand what would become of a message, and why: by the rules that judge messages."""

from collections.abc import Callable, Mapping
from ipaddress import ip_address

from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import AccountId, Address
from mailpods.dns.names import Names
from mailpods.dns.resolver import Resolver
from mailpods.message.srs import Srs
from mailpods.refusal import Refusal
from mailpods.routing.router import Router
from mailpods.rules import chains, lookups
from mailpods.rules.chains import Facts
from mailpods.rules.settings import Settings

QUESTION = ("from", "client", "helo", "login", "port")  # beside the address: who would send it, and how


async def explain(
    reader: DirectoryReader, dns: Callable[[], Resolver], key: str | None, query: Mapping[str, str]
) -> list[str]:
    """Lines for people. `key`: the installation's. `query`: `address` is the recipient; any of QUESTION ask
    about a client's message.

    Raises ValueError for a question that makes no sense.
    """
    address = query.get("address", "")
    if not address:
        raise ValueError("say which: ?address=")
    router = Router(reader, Srs(key) if key else None)
    if not any(query.get(key) for key in QUESTION):
        return router.explain(address)
    server = reader.server
    if server is None:
        raise ValueError("no directory yet: ask again in a moment")
    facts = _facts(Settings(server), query)
    if facts.account and reader.account(facts.account) is None:
        raise ValueError(f"login {facts.account} is no account: write number/local part, e.g. 7/info")
    facts.recipient = Address(address.lower())
    if facts.account and facts.sender:
        facts.sender_is_own = router.owns(facts.account, Address(facts.sender.lower()))
    await lookups.look_up(facts, Names(dns))
    lookups.consult_lists(facts)
    facts.outcome = router.route(Address(address.lower()), facts.may_relay)
    lines = [_client(facts)]
    for command, rules in (("MAIL FROM", chains.MAIL), ("RCPT TO", chains.RECIPIENT)):
        if refusal := chains.first(rules, facts):
            rule = f" (rule {refusal.rule!r})" if refusal.rule else ""
            return [*lines, f"{command}: refused, {refusal.reason}{rule}: {refusal}"]
    if facts.listed:
        lines.append(f"rule {facts.listed.name!r} of the lists: {facts.listed.action}")
        if facts.listed.action == "discard":
            return [*lines, "taken, and thrown away"]
    assert not isinstance(facts.outcome, Refusal)
    return [*lines, "accepted", *router.explain(address, facts.sender)]


def _facts(settings: Settings, query: Mapping[str, str]) -> Facts:
    client, port = query.get("client") or "", query.get("port") or "smtp"
    if client:
        ip_address(client)  # raises ValueError, which says what it is not
    if port not in ("smtp", "submission"):
        raise ValueError(f"port {port!r} is neither smtp nor submission")
    login = query.get("login")
    return Facts(
        settings,
        client,
        settings.is_lan(client),
        settings.is_trusted(client),
        submission=port == "submission",
        helo=query.get("helo") or "client.invalid",
        account=AccountId(login) if login else None,
        sender=(query.get("from") or "").removeprefix("<>"),
    )


def _client(facts: Facts) -> str:
    known = [word for word, holds in (("of the LAN", facts.lan), ("trusted", facts.trusted)) if holds]
    if facts.account:
        known.append(f"logged in as {facts.account}")
    may = "may" if facts.may_relay else "may not"
    who = ", ".join([facts.ip or "no address given", *(known or ["a stranger"])])
    name = f", named {facts.client_name}" if facts.client_name else ""
    return f"client {who}{name}: {may} send to other servers"
