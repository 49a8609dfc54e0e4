"""What an installation may hold, and each of its tenants."""

from pydantic import Field

from mail_operator.kinds.meta import Part
from mail_operator.kinds.values import MOST, Quantity


class ServerLimits(Part):
    """What an installation may hold. A tenant is a namespace other than the MailServer's."""

    domains: int | None = Field(None, ge=1, le=MOST, description="Most domains; blank: unlimited.")
    tenant_objects: int = Field(
        20_000,
        ge=1,
        le=MOST,
        description="Most domains, mailboxes, aliases and lists of one tenant together; the youngest beyond "
        "are DirectoryFull.",
    )
    tenant_bytes: Quantity = Field(
        "4Mi",
        description="Most bytes that these take in the directory, an eighth of it in one of its 16 parts; a "
        "mailbox takes about 400.",
    )
