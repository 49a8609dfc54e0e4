"""Who needs which rights to the custom resources: what the roles of charts/mailpods say, a test compares."""

from collections.abc import Mapping

from mail_operator.kinds.meta import Resource
from mail_operator.kinds.table import KINDS

Rights = Mapping[str, frozenset[str]]  # resource, as maildomains/status -> verbs

READ = frozenset({"get", "list", "watch"})
MANAGE = READ | {"create", "update", "patch", "delete", "deletecollection"}


def of_the_operator() -> Rights:
    """It makes no mailbox, and changes what users write only where that was blank; the status is its own."""
    rights: dict[str, frozenset[str]] = {}
    for kind in KINDS.values():
        verbs = {"list", "watch"}
        if kind.filled:
            verbs.add("patch")
        if has_domain(kind):
            verbs.add("delete")  # with a domain whose mail goes, what is in it goes
        rights[kind.plural] = frozenset(verbs)
        rights[f"{kind.plural}/status"] = frozenset({"patch"})
        if kind.owns:
            rights[f"{kind.plural}/finalizers"] = frozenset({"update"})  # blockOwnerDeletion
    return rights


def of_those_who_make_domains() -> Rights:
    """Domains and policies; servers are the platform team's."""
    of = {"domains": MANAGE, "platform": READ}
    return {kind.plural: of[kind.author] for kind in KINDS.values() if kind.author in of}


def of_those_who_keep_users() -> Rights:
    """What belongs to domains, and to see which there are."""
    users = {kind.plural: MANAGE for kind in KINDS.values() if kind.author == "users"}
    return users | {KINDS["MailDomain"].plural: READ}


def of_those_who_look() -> Rights:
    """All of it."""
    return {kind.plural: READ for kind in KINDS.values()}


def has_domain(kind: type[Resource]) -> bool:
    """Whether it belongs to a MailDomain."""
    spec = kind.model_fields["spec"].annotation
    return "domain_ref" in getattr(spec, "model_fields", {})
