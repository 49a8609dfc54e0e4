"""What becomes of a RCPT: the look-ups that the rules need, the rules, and where the recipient leads."""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from mailpods.directory.records import Address
from mailpods.reception.state import ReceptionState
from mailpods.refusal import Refusal
from mailpods.routing.router import Routed
from mailpods.rules import chains, lookups
from mailpods.rules.context import PolicyContext


@dataclass(slots=True)
class Taken:
    """A recipient, and where it leads."""

    address: Address
    route: Routed


@dataclass(slots=True)
class Discarded:
    """A recipient that is taken and thrown away, as the rule of this name says."""

    address: Address
    rule: str


Verdict = Taken | Discarded | Refusal
Asking = Coroutine[Any, Any, Verdict]


def judge(state: ReceptionState, context: PolicyContext, given: str) -> Verdict | Asking:
    """The verdict at once where nobody need be asked, as of nearly all; or else what asks for it.

    `given`: as the client wrote it, "postmaster" alone for the server's.
    """
    given = given if "@" in given else f"{given}@{context.settings.server.hostname}"
    address = context.recipient = Address(given.lower())
    if not lookups.is_complete(context):
        return _with_names(state, context, address)
    return _judge(state, context, address)


async def _with_names(state: ReceptionState, context: PolicyContext, address: Address) -> Verdict:
    await lookups.look_up(context, state.names)
    verdict = _judge(state, context, address)
    return await verdict if isinstance(verdict, Coroutine) else verdict


def _judge(state: ReceptionState, context: PolicyContext, address: Address) -> Verdict | Asking:
    lookups.consult_lists(context)
    if context.bulk and state.suppressions:
        context.suppressed = state.suppressions.reason(context.sender.rpartition("@")[2], address)
    outcome = context.outcome = state.router.route(address, context.may_relay)
    if refusal := chains.first(chains.RECIPIENT, context):
        return refusal
    if context.listed and context.listed.action == "discard":
        return Discarded(address, context.listed.name)
    assert isinstance(outcome, Routed)
    if _has_quota(state, outcome):
        return _with_quota(state, context, Taken(address, outcome))
    return Taken(address, outcome)


def _has_quota(state: ReceptionState, outcome: Routed) -> bool:
    """Whether every copy goes to a mailbox with a quota: where one has room for sure, nobody is asked."""
    if outcome.remote or len(outcome.accounts) > 4:
        return False
    accounts = [state.reader.account(account) for account in outcome.accounts]
    return bool(accounts) and all(account and account.quota is not None for account in accounts)


async def _with_quota(state: ReceptionState, context: PolicyContext, taken: Taken) -> Verdict:
    shards = context.settings.server.shards
    full = True
    for id in taken.route.accounts:
        account = state.reader.account(id)
        if account and account.shard < len(shards):
            full = await state.quota.full(shards[account.shard].quota, id, context.size)
        else:
            full = False
        if not full:
            break
    context.over_quota = full
    return chains.first(chains.QUOTA, context) or taken
