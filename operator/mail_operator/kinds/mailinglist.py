"""MailingList: an address, its members, its rules."""

from typing import ClassVar, Literal

from pydantic import Field

from mail_operator.kinds.meta import (
    AGE,
    NAME_IS_LOCAL_PART,
    READY,
    REASON,
    SET,
    Column,
    LocalRef,
    Part,
    Resource,
    Status,
    later,
)
from mail_operator.kinds.values import EmailAddress, LocalPart, Text


class MailingListSpec(Part):
    """An address and its members."""

    domain_ref: LocalRef = Field(description="The MailDomain, in the same namespace.")
    local_part: LocalPart | None = Field(None, description="What stands before the @; blank: metadata.name.")
    members: list[EmailAddress] = Field(
        max_length=10000,
        description="Who receives the posts.",
        json_schema_extra=SET | later("R-002-11"),
    )
    pool: Literal["bulk", "regular"] = Field(
        "bulk", description="Which pods send the posts.", json_schema_extra=later("R-002-12")
    )


class MailingListStatus(Status):
    """What became of a list."""

    address: Text | None = Field(None, description="The address.")


class MailingList(Resource):
    """An address whose mail goes to its members."""

    author = "users"
    plural = "mailinglists"
    short_name = "mlist"
    columns = (Column("Address", ".status.address"), READY, REASON, AGE)
    status_model: ClassVar[type[Status]] = MailingListStatus
    validations = (NAME_IS_LOCAL_PART,)

    kind: Literal["MailingList"]
    spec: MailingListSpec

    @property
    def local_part(self) -> str:
        """What stands before the @."""
        return self.spec.local_part or self.metadata.name
