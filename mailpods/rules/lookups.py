"""Finds out what rules about strangers ask: what DNS says of them, and which rule of the lists decides."""

import asyncio

from mailpods.dns.names import Names
from mailpods.rules.context import PolicyContext


def is_complete(context: PolicyContext) -> bool:
    """Whether nothing must be asked of DNS before the rules judge."""
    return not any(_missing(context))


def _missing(context: PolicyContext) -> tuple[bool, bool, bool]:
    """Whether to ask about the client's address, the name in its EHLO, the sender's domain."""
    screening, settings = context.settings.server.screening, context.settings
    stranger = not context.may_relay
    names_client = settings.lists_host_names or (stranger and screening.client_named)
    return (
        names_client and context.client_known == "unasked",
        stranger and screening.helo_known and bool(context.helo) and context.helo_known == "unasked",
        stranger and screening.sender_known and bool(context.sender) and context.sender_known == "unasked",
    )


async def look_up(context: PolicyContext, names: Names) -> None:
    """Ask DNS what is missing, all at once. What it does not say in time is `unsure`."""
    client, helo, sender = _missing(context)

    async def of_client() -> None:
        context.client_known, context.client_name = await names.client(context.ip)

    async def of_helo() -> None:
        context.helo_known = await names.exists(context.helo)

    async def of_sender() -> None:
        context.sender_known = await names.exists(context.sender.rpartition("@")[2])

    wanted = ((client, of_client), (helo, of_helo), (sender, of_sender))
    await asyncio.gather(*(ask() for is_wanted, ask in wanted if is_wanted))


def consult_lists(context: PolicyContext) -> None:
    """Note which rule decides about this recipient."""
    lists = context.settings.lists
    context.listed = lists.decides(context) if lists else None
