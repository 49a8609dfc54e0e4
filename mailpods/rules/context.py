"""What the rules may look at: a client, what it said so far, and what was looked up about that."""

from dataclasses import dataclass

from mailpods.directory.records import AccountId, ListRule
from mailpods.dns.names import Known
from mailpods.routing.router import Outcome
from mailpods.rules.settings import Settings


@dataclass(slots=True)
class PolicyContext:
    """What the rules may look at. The session fills it in as the dialogue goes on; rules only read it."""

    settings: Settings
    ip: str
    lan: bool
    trusted: bool
    submission: bool = False  # came in on a port for submission
    bulk: bool = False  # … and of the bulk pool
    bulk_allowed: bool = True  # the domain of who logged in may use that
    connections: int = 0  # this client's, this one included
    rate: float = 0  # connections that this client opened within the last minute, this one included
    client_known: Known = "unasked"
    client_name: str = ""  # as DNS confirms it
    tls: bool = False
    helo: str = ""
    helo_known: Known = "unasked"
    account: AccountId | None = None  # who authenticated
    sender: str = ""
    sender_known: Known = "unasked"  # whether its domain is
    sender_is_own: bool = True  # looked up only where a rule needs it
    size: int = 0  # announced with MAIL, later what arrived; bytes
    recipients: int = 0  # taken so far
    recipient: str = ""  # of this RCPT
    suppressed: str | None = None  # why the sender's domain sends nothing to the recipient in bulk
    listed: ListRule | None = None  # the rule of the lists that decides about it
    outcome: Outcome | None = None  # where the recipient of this RCPT leads
    over_quota: bool = False
    hops: int = 0  # Received fields
    foreign_sender: str = ""  # why From and Sender are not the login's own; looked at where a rule needs it

    @property
    def may_relay(self) -> bool:
        """Whether this client may send to other servers: it logged in, or its network is excepted."""
        return self.account is not None or self.trusted or (self.settings.server.skip_lan and self.lan)

    @property
    def screened(self) -> bool:
        """Whether the client must be identified: it may not relay, and no allow list admits the message."""
        return not self.may_relay and (self.listed is None or self.listed.action != "allow")
