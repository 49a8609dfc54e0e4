"""Finds out what rules about strangers ask: what DNS says of them, and which rule of the lists decides."""

import asyncio

from mailpods.dns.names import Names
from mailpods.rules.chains import Facts


def is_complete(facts: Facts) -> bool:
    """Whether nothing must be asked of DNS before the rules judge."""
    return not any(_missing(facts))


def _missing(facts: Facts) -> tuple[bool, bool, bool]:
    """Whether to ask about the client's address, the name in its EHLO, the sender's domain."""
    screening, settings = facts.settings.server.screening, facts.settings
    stranger = not facts.may_relay
    names_client = settings.lists_host_names or (stranger and screening.client_named)
    return (
        names_client and facts.client_known == "unasked",
        stranger and screening.helo_known and bool(facts.helo) and facts.helo_known == "unasked",
        stranger and screening.sender_known and bool(facts.sender) and facts.sender_known == "unasked",
    )


async def look_up(facts: Facts, names: Names) -> None:
    """Ask DNS what is missing, all at once. What it does not say in time is `unsure`."""
    client, helo, sender = _missing(facts)

    async def of_client() -> None:
        facts.client_known, facts.client_name = await names.client(facts.ip)

    async def of_helo() -> None:
        facts.helo_known = await names.exists(facts.helo)

    async def of_sender() -> None:
        facts.sender_known = await names.exists(facts.sender.rpartition("@")[2])

    wanted = ((client, of_client), (helo, of_helo), (sender, of_sender))
    await asyncio.gather(*(ask() for is_wanted, ask in wanted if is_wanted))


def consult_lists(facts: Facts) -> None:
    """Note which rule decides about this recipient."""
    lists = facts.settings.lists
    facts.listed = lists.decides(facts) if lists else None
