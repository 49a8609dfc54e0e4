"""MailAlias: an address, and where it leads."""

from typing import ClassVar, Literal

from pydantic import Field

from mail_operator.kinds.meta import (
    AGE,
    NAME_IS_LOCAL_PART,
    READY,
    REASON,
    SEQUENCE,
    Column,
    LocalRef,
    Part,
    Resource,
    Rule,
    Status,
)
from mail_operator.kinds.values import EmailAddress, LocalPart, Text


class Target(Part):
    """One place to which an alias leads: exactly one of the two."""

    validations = (
        Rule(
            "",
            "write either mailboxRef or address",
            "has(self.mailboxRef) != has(self.address)",
            lambda target: (target.mailbox_ref is None) != (target.address is None),
        ),
    )

    mailbox_ref: LocalRef | None = Field(None, description="A Mailbox of this namespace.")
    address: EmailAddress | None = Field(None, description="Any address, here or elsewhere.")


class MailAliasSpec(Part):
    """An address and where it leads."""

    domain_ref: LocalRef = Field(description="The MailDomain, in the same namespace.")
    local_part: LocalPart | None = Field(None, description="What stands before the @; blank: metadata.name.")
    targets: list[Target] = Field(
        min_length=1, max_length=1000, description="Where mail goes.", json_schema_extra=SEQUENCE
    )


class MailAliasStatus(Status):
    """What became of an alias."""

    address: Text | None = Field(None, description="The address.")


class MailAlias(Resource):
    """An address and where it leads."""

    author = "users"
    plural = "mailaliases"
    short_name = "malias"
    columns = (Column("Address", ".status.address"), READY, REASON, AGE)
    status_model: ClassVar[type[Status]] = MailAliasStatus
    validations = (NAME_IS_LOCAL_PART,)

    kind: Literal["MailAlias"]
    spec: MailAliasSpec

    @property
    def local_part(self) -> str:
        """What stands before the @."""
        return self.spec.local_part or self.metadata.name
