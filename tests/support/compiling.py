"""Snapshots for the tests of compile(), and short ways to what a Plan says."""

from typing import Any

from mail_operator.compiler.compiling import compile
from mail_operator.compiler.plan import Plan
from mail_operator.compiler.snapshot import PasswordHash, Snapshot
from mail_operator.compiler.status import ready_of
from mail_operator.kinds import Resource, load
from mail_operator.kinds.meta import ObjectRef

from mailpods.directory.records import (
    Account,
    AccountId,
    Address,
    AddressEntry,
    Credential,
    Domain,
    DomainName,
)
from mailpods.directory.shards import decode, decode_credentials
from tests.support.broken import manifest

SERVER = ObjectRef("MailServer", "default", "main")
KEY = {("default", "main-key"): PasswordHash("x")}


def resource(kind: str, name: str, namespace: str = "default", **spec: Any) -> Resource:
    """A custom resource."""
    document = manifest(kind, spec, name)
    document["metadata"]["namespace"] = namespace
    return load(document)


def server(**spec: Any) -> Resource:
    """The MailServer."""
    return resource("MailServer", "main", hostname="mail.a.test", **spec)


def domain(name: str = "a.test", namespace: str = "default", **spec: Any) -> Resource:
    """A MailDomain, named as its domain with a hyphen."""
    at = {"name": "main", "namespace": "default"}
    return resource("MailDomain", name.replace(".", "-"), namespace, domainName=name, serverRef=at, **spec)


def mailbox(name: str, of: str = "a-test", **spec: Any) -> Resource:
    """A Mailbox with a password."""
    return resource("Mailbox", name, domainRef={"name": of}, **{"passwordHash": "{PLAIN}x", **spec})


def alias(name: str, *targets: str, of: str = "a-test", **spec: Any) -> Resource:
    """A MailAlias; a target without @ names a Mailbox."""
    to = [{"address": t} if "@" in t else {"mailboxRef": {"name": t}} for t in targets]
    return resource("MailAlias", name, domainRef={"name": of}, targets=to, **spec)


def snapshot(*objects: Resource, **fields: Any) -> Snapshot:
    """A snapshot in which the first object is the oldest."""
    fields["passwords"] = {**KEY, **fields.get("passwords", {})}
    age = {each.ref: n for n, each in enumerate(objects)}
    return Snapshot({each.ref: each for each in objects}, age=age, **fields)


class Compiled:
    """What became of some objects."""

    def __init__(self, *objects: Resource, **fields: Any) -> None:
        self.plan: Plan = compile(snapshot(*objects, **fields))

    def ready(self, each: Resource) -> tuple[str, str, str]:
        """Status, reason and message of Ready."""
        found = ready_of(self.plan.statuses[each.ref])
        assert found is not None
        return found["status"], found["reason"], found["message"]

    def condition(self, each: Resource, kind: str) -> dict[str, Any] | None:
        """Another condition, if the object has it."""
        conditions = self.plan.statuses[each.ref]["conditions"]
        return next((c for c in conditions if c["type"] == kind), None)

    @property
    def addresses(self) -> dict[Address, AddressEntry]:
        """All addresses of the directory."""
        files = [decode(d) for n, d in self.plan.directory[SERVER].items() if n != "server.json"]
        return {address: entry for bucket in files for address, entry in bucket.addresses.items()}

    @property
    def domains(self) -> dict[DomainName, Domain]:
        """All names of domains in the directory."""
        files = [decode(d) for n, d in self.plan.directory[SERVER].items() if n != "server.json"]
        return {name: each for bucket in files for name, each in bucket.domains.items()}

    @property
    def accounts(self) -> dict[AccountId, Account]:
        """All accounts of the directory."""
        files = [decode(d) for n, d in self.plan.directory[SERVER].items() if n != "server.json"]
        return {id: account for bucket in files for id, account in bucket.accounts.items()}

    @property
    def credentials(self) -> dict[AccountId, Credential]:
        """All accounts that may log in."""
        files = [decode_credentials(d) for n, d in self.plan.credentials[SERVER].items() if n != "store.json"]
        return {id: credential for file in files for id, credential in file.accounts.items()}
