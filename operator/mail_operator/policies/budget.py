"""Is there room for an object in its server's directory?"""

from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.verdict import Verdict


def directory_full(server: ObjectRef, namespace: str) -> Verdict:
    """What an object says that has no room: the youngest of a namespace that takes more than its share."""
    return Verdict(
        "DirectoryFull",
        f"The directory of {server} holds no more of namespace {namespace} beside what is older: remove "
        "something, write shorter lists of targets, or have tenantObjects or tenantBytes in its spec.limits "
        "raised.",
        waits=True,
    )
