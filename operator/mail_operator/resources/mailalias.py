"""MailAlias: an address, and where it leads."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from mail_operator.resources.meta import EmailAddress, LocalPart, LocalRef, Part, Resource


class Target(Part):
    """One place to which an alias leads: exactly one of the two."""

    mailbox_ref: LocalRef | None = Field(None, description="A Mailbox of this namespace.")
    address: EmailAddress | None = Field(None, description="Any address, here or elsewhere.")


class MailAliasSpec(Part):
    """An address and where it leads."""

    domain_ref: LocalRef = Field(description="The MailDomain, in the same namespace.")
    local_part: LocalPart | None = Field(None, description="What stands before the @; blank: metadata.name.")
    targets: list[Target] = Field(min_length=1, max_length=1000, description="Where mail goes.")


class MailAlias(Resource):
    """An address and where it leads."""

    kind: Literal["MailAlias"]
    spec: MailAliasSpec

    @property
    def local_part(self) -> str:
        """What stands before the @."""
        return self.spec.local_part or self.metadata.name

    def rules(self) -> Iterator[tuple[str, str]]:
        """Each target is one thing."""
        for n, target in enumerate(self.spec.targets):
            if (target.mailbox_ref is None) == (target.address is None):
                yield f"spec.targets[{n}]", "write either mailboxRef or address"
