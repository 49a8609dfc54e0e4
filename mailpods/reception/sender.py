"""What becomes of a MAIL: the look-ups that the rules need, and the rules."""

from mailpods.directory.records import AccountId, Address, DomainName
from mailpods.reception.state import ReceptionState
from mailpods.refusal import Refusal
from mailpods.rules import chains
from mailpods.rules.context import PolicyContext


def judge(state: ReceptionState, context: PolicyContext, sender: str, size: int) -> Refusal | None:
    """Why no transaction begins, or None. `size` is what was announced, in bytes."""
    context.size = size
    context.sender, context.sender_known = sender, "unasked"
    context.recipient, context.recipients = "", 0
    if context.bulk and context.account:
        context.bulk_allowed = _may_mail_in_bulk(state, context.account)
    if context.account and sender and context.settings.server.sender_must_match:
        context.sender_is_own = state.router.owns(context.account, Address(sender.lower()))
    else:
        context.sender_is_own = True
    return chains.first(chains.MAIL, context)


def _may_mail_in_bulk(state: ReceptionState, account: AccountId) -> bool:
    known = state.reader.account(account)
    domain = state.reader.domain(DomainName(known.address.rpartition("@")[2])) if known else None
    return domain is None or domain.bulk
