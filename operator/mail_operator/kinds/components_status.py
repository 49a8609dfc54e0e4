"""What a MailServer's status says of its components."""

from typing import Annotated

from pydantic import Field

from mail_operator.kinds.meta import SEQUENCE, Part
from mail_operator.kinds.values import Count, Text

Shard = Annotated[int, Field(ge=0, le=99)]


class ComponentStatus(Part):
    """How many pods of a component there are now."""

    name: Text = Field(description="smtp, bulk, store or portal.")
    wanted: Count = Field(description="How many pods it should have.")
    ready: Count = Field(description="How many are ready.")
    shards_down: list[Shard] = Field(
        [],
        max_length=100,
        description="Shards of the store of which no pod is ready: their mailboxes cannot be read, and their "
        "mail waits in the spool.",
        json_schema_extra=SEQUENCE,
    )
