"""Replies that do not mean for a recipient what they say."""

from collections.abc import Callable, Sequence

from mailpods.delivery.client.replies import Reply
from mailpods.delivery.outcomes import response_classes


def settle(
    targets: Sequence[str], replies: Sequence[Reply], is_ours: Callable[[str], bool]
) -> tuple[dict[str, Reply], list[str]]:
    """What is to be believed about each; and those that go again at once.

    Where a server took some recipients, "too many" is about this transaction, also as 552 (RFC 5321
    §4.5.3.1.10). `is_ours`: an account that the directory has, of which its store may know only in a moment.
    """
    believed: dict[str, Reply] = {}
    excess: list[str] = []
    took_some = any(reply.ok for reply in replies)
    for target, reply in zip(targets, replies, strict=True):
        class_ = "" if reply.ok else response_classes.of(reply)
        if took_some and reply.code in (452, 552) and class_ not in ("mailbox-full", "size"):
            excess.append(target)
        elif reply.permanent and class_ == "unknown-recipient" and is_ours(target):
            believed[target] = Reply(451, f"4.2.1 its store does not know the account yet: {reply}")
        else:
            believed[target] = reply
    return believed, excess
