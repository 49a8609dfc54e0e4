"""RelayPolicy: who may pass mail through, which way, under which rules."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mail_operator.kinds.meta import (
    AGE,
    BY_NAME,
    RANKING,
    READY,
    REASON,
    SET,
    Column,
    DnsStatus,
    LocalRef,
    Part,
    Resource,
    Rule,
    ServerRef,
    Status,
)
from mail_operator.kinds.values import (
    MOST,
    Cidr,
    Domain,
    EmailAddress,
    Host,
    Quantity,
    Resolver,
    Text,
    quantity_bytes,
)

MAX_MESSAGE_SIZE = 128_000_000  # bytes; R-002-20

# An address, a domain or a name, in which * and ? stand for others.
Pattern = Annotated[str, Field(min_length=1, max_length=320, pattern=r"^\S+$")]
RuleName = Annotated[str, Field(min_length=1, max_length=63)]


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
            "quantity(string(self.messageSize)).compareTo(quantity('128M')) <= 0",
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
    per_account_auth: bool = Field(
        False, description="Accounts that have a smarthostAuth log in with that, the others as above."
    )


class DeliveryRule(Part):
    """Another way for some mail."""

    readable_in_part = False
    validations = (
        Rule(
            "",
            "matches nothing: write sender, recipient or both",
            "has(self.sender) || has(self.recipient)",
            lambda rule: bool(rule.sender or rule.recipient),
        ),
    )

    name: RuleName = Field(description="A name for people and logs.")
    sender: Pattern | None = Field(None, description="Sender address or domain; * and ? stand for others.")
    recipient: Pattern | None = Field(None, description="Recipient address or domain, likewise.")
    smarthost: Smarthost | None = Field(
        None, description="Where such mail goes; blank: directly to the servers of its domain."
    )


class ShapingRule(Part):
    """What some mail servers get from each process at most."""

    name: RuleName = Field(description="A name for people.")
    mx: Pattern = Field(description="Names of mail servers, e.g. *.google.com; * and ? stand for others.")
    connections: int | None = Field(None, ge=1, le=1000, description="Connections at a time.")
    messages_per_connection: int | None = Field(
        None, ge=1, le=MOST, description="Messages over one connection."
    )
    per_minute: int | None = Field(None, ge=1, le=MOST, description="Messages within a minute.")


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
    trusted: list[Network] = Field(
        [],
        max_length=1000,
        description="Networks that relay without a login.",
        json_schema_extra=BY_NAME,
    )
    rules: list[DeliveryRule] = Field(
        [],
        max_length=1000,
        description="Exceptions; the first one that matches holds.",
        json_schema_extra=BY_NAME,
    )
    shaping: list[ShapingRule] = Field(
        [],
        max_length=1000,
        description="The first rule that matches one of a domain's mail servers holds. For the large "
        "providers there are some already, which come last.",
        json_schema_extra=BY_NAME,
    )


class RelayDomain(Part):
    """A domain taken for another server."""

    name: RuleName = Field(description="A name for people and logs.")
    domain: Domain = Field(description="The domain.")
    next_hop: Host | None = Field(None, description="Its server; blank: by MX.")


class Inbound(Part):
    """Mail taken for other servers."""

    domains: list[RelayDomain] = Field(
        [], max_length=1000, description="Their domains.", json_schema_extra=BY_NAME
    )
    resolvers: list[Resolver] = Field(
        [],
        max_length=3,
        description="DNS servers, in order, e.g. 192.0.2.53; blank: the system's.",
        json_schema_extra=RANKING,
    )


class Criteria(Part):
    """What a message must have; all that is given must match."""

    readable_in_part = False
    validations = (
        Rule(
            "",
            "are blank: write at least one",
            "has(self.sender) || has(self.recipient) || has(self.domain)"
            " || has(self.client) || has(self.hostName) || has(self.helo)",
            lambda criteria: bool(criteria.model_fields_set),
        ),
    )

    sender: Pattern | None = Field(
        None, description="Sender address, or domain where it has no @; <> is the null sender."
    )
    recipient: Pattern | None = Field(None, description="Recipient address, or domain where it has no @.")
    domain: Domain | None = Field(None, description="Domain of sender or recipient, or one above it.")
    client: Cidr | None = Field(None, description="The client's network.")
    host_name: Pattern | None = Field(None, description="The client's name in DNS, confirmed both ways.")
    helo: Pattern | None = Field(None, description="What the client calls itself.")


class AllowRule(Part):
    """One rule of the allow list."""

    readable_in_part = False

    name: RuleName = Field(description="A name for people and logs.")
    criteria: Criteria = Field(description="What a message must have.")
    action: Literal["allow"] = Field("allow", description="It is admitted.")


class DenyRule(Part):
    """One rule of the deny list."""

    readable_in_part = False

    name: RuleName = Field(description="A name for people and logs.")
    criteria: Criteria = Field(description="What a message must have.")
    action: Literal["reject", "discard"] = Field(
        "reject", description="It is refused, or taken and thrown away."
    )


class Lists(Part):
    """Allow first, then deny; the first match wins. What is allowed may still not relay."""

    allow: list[AllowRule] = Field(
        [],
        max_length=1000,
        description="Admitted, past the other rules about unidentified clients.",
        json_schema_extra=BY_NAME,
    )
    deny: list[DenyRule] = Field(
        [], max_length=1000, description="Refused, or thrown away.", json_schema_extra=BY_NAME
    )


class SenderPolicy(Part):
    """Senders that cannot be identified."""

    reject_non_fqdn: bool = Field(False, description="Refuse senders without a full domain.")
    reject_unknown_domain: bool = Field(
        False, description="Refuse senders whose domain has no MX or address; while DNS is silent, for now."
    )


class ConnectionPolicy(Part):
    """Clients that cannot be identified, or could overload the server."""

    require_ptr: bool = Field(False, description="Refuse clients without a name in DNS.")
    reject_early_talkers: bool = Field(
        False, description="Refuse clients that speak before the greeting, which comes after two seconds."
    )
    max_concurrent: int | None = Field(None, ge=1, le=100000, description="Most connections of one client.")
    rate_per_minute: int | None = Field(
        None, ge=1, le=60000, description="Most new connections of one client within a minute, of each pod."
    )


class Helo(Part):
    """What a client must call itself."""

    required: bool = Field(True, description="HELO or EHLO must come first.")
    fqdn: bool = Field(False, description="The name must be a full one, or an address literal.")
    known: bool = Field(False, description="The name must have an MX record or an address.")


class Advanced(Part):
    """Extended security rules."""

    disable_vrfy: bool = Field(False, description="VRFY is refused with 502 in place of a 252.")
    refuse_early_pipelining: bool = Field(False, description="Commands sent before their turn are refused.")


class RelayPolicySpec(Part):
    """The rules. Those of several policies for one server are added up, the older first."""

    server_ref: ServerRef = Field(description="The MailServer that they hold for.")
    lan_networks: list[Network] = Field(
        [], max_length=1000, description="What `lan` means.", json_schema_extra=BY_NAME
    )
    auth: Auth = Field(Auth(), description="Who must log in.")
    limits: RelayLimits = Field(RelayLimits(), description="Bounds of a message.")
    tls: RelayTls = Field(RelayTls(), description="Encryption.")
    profile: Profile = Field(Profile(), description="How the server presents itself.")
    external_postmasters: list[EmailAddress] = Field(
        [],
        max_length=20,
        description="Who receives mail to postmaster and mailer-daemon.",
        json_schema_extra=SET,
    )
    auto_forward: bool = Field(
        True,
        description="Filters of users may send on what comes. False: it stays in their mailboxes; aliases "
        "lead on all the same.",
    )
    outbound: Outbound = Field(Outbound(), description="Mail for other servers.")
    inbound: Inbound = Field(Inbound(), description="Mail taken for other servers.")
    lists: Lists = Field(Lists(), description="Allow and deny lists.")
    sender_policy: SenderPolicy = Field(SenderPolicy(), description="Unidentified senders.")
    connection_policy: ConnectionPolicy = Field(ConnectionPolicy(), description="Unidentified clients.")
    helo: Helo = Field(Helo(), description="What a client must call itself.")
    advanced: Advanced = Field(Advanced(), description="Extended security rules.")

    def smarthosts(self) -> Iterator[tuple[str, Smarthost]]:
        """(field, smarthost) of all that it names and uses."""
        outbound = self.outbound
        if outbound.smarthost and outbound.mode == "smarthost":
            yield "spec.outbound.smarthost", outbound.smarthost
        for number, rule in enumerate(outbound.rules):
            if rule.smarthost:
                yield f"spec.outbound.rules[{number}].smarthost", rule.smarthost


class RelayPolicyStatus(Status):
    """What became of a policy."""

    dns: DnsStatus | None = Field(
        None,
        description="Records in public DNS that lead mail of inbound.domains here; DNSReady says whether "
        "those are listed there at all, MXOrder whether their own servers outrank this one.",
    )


class RelayPolicy(Resource):
    """Who may pass mail through, which way, under which rules."""

    author = "domains"
    plural = "relaypolicies"
    short_name = "rpol"
    columns = (
        Column("Server", ".spec.serverRef.name"),
        Column("Mode", ".spec.outbound.mode"),
        READY,
        REASON,
        AGE,
    )
    status_model: ClassVar[type[Status]] = RelayPolicyStatus

    kind: Literal["RelayPolicy"]
    spec: RelayPolicySpec

    def secrets(self) -> Iterator[str]:
        """Those of its smarthosts."""
        return (s.auth_secret_ref.name for _, s in self.spec.smarthosts() if s.auth_secret_ref)
