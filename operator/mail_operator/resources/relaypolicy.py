"""RelayPolicy: who may pass mail through, which way, under which rules."""

from typing import Annotated, Any, Literal

from pydantic import Field

from mail_operator.resources.meta import (
    AGE,
    READY,
    REASON,
    Cidr,
    Column,
    Domain,
    EmailAddress,
    Host,
    LocalRef,
    Part,
    Quantity,
    Resource,
    Rule,
    ServerRef,
    Text,
    later,
    quantity_bytes,
)

MAX_MESSAGE_SIZE = 128_000_000  # bytes; R-002-20

# An address, of IPv4 with a port or without.
Resolver = Annotated[
    str,
    Field(
        max_length=60, pattern=r"^([0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]{1,5})?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$"
    ),
]
RuleName = Annotated[str, Field(min_length=1, max_length=63)]


def _switch(text: str, requirement: str) -> Any:
    return Field(False, description=text, json_schema_extra=later(requirement))


class Network(Part):
    """A named network."""

    name: RuleName = Field(description="A name for people and logs.")
    cidr: Cidr = Field(description="The network, e.g. 192.0.2.0/24.")


class Auth(Part):
    """Who must log in."""

    required: bool = Field(False, description="Every client must log in, also on port 25.")
    skip_lan: bool = Field(False, description="Clients of the LAN relay without a login.")
    sender_must_match: bool = Field(True, description="The sender address must lead to the login's mailbox.")


class RelayLimits(Part):
    """Bounds of a message."""

    validations = (
        Rule(
            "messageSize",
            "is more than 128M: write 128M or less",
            "quantity(self.messageSize).compareTo(quantity('128M')) <= 0",
            lambda limits: quantity_bytes(limits.message_size) <= MAX_MESSAGE_SIZE,
        ),
    )

    message_size: Quantity = Field("50M", description="Largest message; at most 128M.")
    recipients: int = Field(1000, ge=1, le=100000, description="Most recipients of one message.")
    hops: int = Field(50, ge=1, le=1000, description="Most servers that a message has passed.")


class RelayTls(Part):
    """Encryption."""

    required: bool = Field(True, description="No login before TLS.")


class Profile(Part):
    """How the server presents itself."""

    hostname: Host | None = Field(None, description="Name in the greeting; blank: the MailServer's.")
    banner: Text | None = Field(None, description="Text after the name.")
    help_url: Text | None = Field(None, description="Page named in `550 relay not permitted`.")


class Smarthost(Part):
    """The server that takes all outgoing mail."""

    host: Host = Field(description="Its name.")
    port: int = Field(587, ge=1, le=65535, description="Its port.")
    tls: Literal["none", "opportunistic", "starttls", "tls"] = Field("starttls", description="Encryption.")
    auth_secret_ref: LocalRef | None = Field(None, description="Secret with keys username and password.")
    per_account_auth: bool = _switch("Accounts log in with their own smarthostAuth.", "R-004-09")


class DeliveryRule(Part):
    """Another way for some mail."""

    validations = (
        Rule(
            "",
            "matches nothing: write sender, recipient or both",
            "has(self.sender) || has(self.recipient)",
            lambda rule: bool(rule.sender or rule.recipient),
        ),
    )

    name: RuleName = Field(description="A name for people and logs.")
    sender: Text | None = Field(None, description="Sender address or domain.")
    recipient: Text | None = Field(None, description="Recipient address or domain.")
    host: Host = Field(description="Where such mail goes.")


class Outbound(Part):
    """Mail for other servers."""

    validations = (
        Rule(
            "smarthost",
            "is needed in mode smarthost: name its host",
            "self.mode != 'smarthost' || has(self.smarthost)",
            lambda outbound: outbound.mode != "smarthost" or outbound.smarthost is not None,
        ),
    )

    mode: Literal["direct", "smarthost"] = Field("direct", description="How mail leaves.")
    smarthost: Smarthost | None = Field(None, description="Where it goes in mode smarthost.")
    trusted: list[Network] = Field([], max_length=1000, description="Networks that relay without a login.")
    rules: list[DeliveryRule] = Field(
        [], max_length=1000, description="Exceptions, in order.", json_schema_extra=later("R-003-30")
    )


class RelayDomain(Part):
    """A domain taken for another server."""

    name: RuleName = Field(description="A name for people and logs.")
    domain: Domain = Field(description="The domain.")
    next_hop: Host | None = Field(None, description="Its server; blank: by MX.")


class Inbound(Part):
    """Mail taken for other servers."""

    domains: list[RelayDomain] = Field([], max_length=1000, description="Their domains.")
    resolvers: list[Resolver] = Field(
        [], max_length=3, description="DNS servers, in order, e.g. 192.0.2.53; blank: the system's."
    )


class Criteria(Part):
    """What a message must have; all that is given must match."""

    validations = (
        Rule(
            "",
            "are blank: write at least one",
            "has(self.sender) || has(self.recipient) || has(self.domain)"
            " || has(self.client) || has(self.hostName) || has(self.helo)",
            lambda criteria: bool(criteria.model_fields_set),
        ),
    )

    sender: Text | None = Field(None, description="Sender address.")
    recipient: Text | None = Field(None, description="Recipient address.")
    domain: Text | None = Field(None, description="Domain of sender or recipient.")
    client: Cidr | None = Field(None, description="The client's network.")
    host_name: Text | None = Field(None, description="The client's name in DNS.")
    helo: Text | None = Field(None, description="What the client calls itself.")


class ListRule(Part):
    """One rule of a list."""

    name: RuleName = Field(description="A name for people and logs.")
    criteria: Criteria = Field(description="What a message must have.")
    action: Literal["reject", "discard", "allow"] = Field("reject", description="What is done with it.")


class Lists(Part):
    """Allow first, then deny; the first match wins."""

    allow: list[ListRule] = Field(
        [], max_length=1000, description="Admitted.", json_schema_extra=later("R-003-18")
    )
    deny: list[ListRule] = Field(
        [], max_length=1000, description="Refused or dropped.", json_schema_extra=later("R-003-18")
    )


class SenderPolicy(Part):
    """Senders that cannot be identified."""

    reject_non_fqdn: bool = _switch("Refuse senders without a full domain.", "R-003-22")
    reject_unknown_domain: bool = _switch("Refuse senders whose domain has no MX or address.", "R-003-22")


class ConnectionPolicy(Part):
    """Clients that cannot be identified, or could overload the server."""

    require_ptr: bool = _switch("Refuse clients without a name in DNS.", "R-003-23")
    reject_early_talkers: bool = _switch("Refuse clients that speak before the greeting.", "R-003-25")
    max_concurrent: int | None = Field(None, ge=1, description="Most connections of one client.")
    rate_per_minute: int | None = Field(
        None, ge=1, description="Most new connections of one client.", json_schema_extra=later("R-003-24")
    )


class Helo(Part):
    """What a client must call itself."""

    required: bool = _switch("HELO or EHLO must come first.", "R-003-25")
    fqdn: bool = _switch("The name must be a full one.", "R-003-25")
    known: bool = _switch("The name must be in DNS.", "R-003-25")


class Advanced(Part):
    """Extended security rules."""

    disable_vrfy: bool = _switch("VRFY is refused with 502 in place of a 252.", "R-003-27")
    refuse_early_pipelining: bool = _switch("Commands sent before their turn are refused.", "R-003-27")


class RelayPolicySpec(Part):
    """The rules. Those of several policies for one server are added up, the older first."""

    server_ref: ServerRef = Field(description="The MailServer that they hold for.")
    lan_networks: list[Network] = Field([], max_length=1000, description="What `lan` means.")
    auth: Auth = Field(Auth(), description="Who must log in.")
    limits: RelayLimits = Field(RelayLimits(), description="Bounds of a message.")
    tls: RelayTls = Field(RelayTls(), description="Encryption.")
    profile: Profile = Field(Profile(), description="How the server presents itself.")
    external_postmasters: list[EmailAddress] = Field(
        [], max_length=20, description="Who receives mail to postmaster and mailer-daemon."
    )
    auto_forward: bool = Field(
        True, description="Users may forward by themselves.", json_schema_extra=later("R-003-08")
    )
    outbound: Outbound = Field(Outbound(), description="Mail for other servers.")
    inbound: Inbound = Field(Inbound(), description="Mail taken for other servers.")
    lists: Lists = Field(Lists(), description="Allow and deny lists.")
    sender_policy: SenderPolicy = Field(SenderPolicy(), description="Unidentified senders.")
    connection_policy: ConnectionPolicy = Field(ConnectionPolicy(), description="Unidentified clients.")
    helo: Helo = Field(Helo(), description="What a client must call itself.")
    advanced: Advanced = Field(Advanced(), description="Extended security rules.")


class RelayPolicy(Resource):
    """Who may pass mail through, which way, under which rules."""

    plural = "relaypolicies"
    short_name = "rpol"
    columns = (
        Column("Server", ".spec.serverRef.name"),
        Column("Mode", ".spec.outbound.mode"),
        READY,
        REASON,
        AGE,
    )

    kind: Literal["RelayPolicy"]
    spec: RelayPolicySpec
