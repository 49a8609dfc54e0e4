"""What mail pods must know.

Two sets of files, mounted separately. The *directory* (server, domains, addresses, accounts) is read by
every mail pod. The *credentials* (logins and password hashes) are mounted into Dovecot's containers alone:
a process that faces the Internet on SMTP can read no hash.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NewType

Address = NewType("Address", str)  # lower case, local@domain
AccountId = NewType("AccountId", str)  # number/local part, e.g. 7/info: stable, because both are immutable
DomainName = NewType("DomainName", str)  # lower case, A-labels

Access = Literal["everywhere", "lan", "off"]
Service = Literal["imap", "pop3", "sieve", "smtp", "portal"]
TlsMode = Literal["none", "opportunistic", "starttls", "tls"]
ListAction = Literal["allow", "reject", "discard"]


@dataclass(frozen=True, slots=True)
class Smarthost:
    """A host that takes mail for other servers; credentials are None where it asks for none.

    `per_account`: accounts that have credentials of their own there log in with those (R-004-09).
    """

    host: str
    port: int = 587
    tls: TlsMode = "starttls"
    username: str | None = None
    password: str | None = None
    per_account: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A delivery rule: mail that matches all that is given goes over `via`, or by MX where that is None.

    `sender` and `recipient` are patterns of addresses or domains, see mailpods.routing.patterns.
    """

    name: str
    sender: str | None = None
    recipient: str | None = None
    via: Smarthost | None = None


@dataclass(frozen=True, slots=True)
class ListRule:
    """A rule of the lists: what is given must match, all of it. Patterns as in Route; `client` is a CIDR.

    `scope`: the recipients' domains it is about, for a rule of a tenant's; all where it is empty.
    """

    name: str
    action: ListAction
    sender: str | None = None
    recipient: str | None = None
    domain: str | None = None  # of sender or recipient, or one below it
    client: str | None = None
    host_name: str | None = None
    helo: str | None = None
    scope: tuple[DomainName, ...] = ()


@dataclass(frozen=True, slots=True)
class Screening:
    """What clients must pass that may not relay; the lists hold for everybody (R-003-18 to R-003-27)."""

    lists: tuple[ListRule, ...] = ()  # in the order in which they are tried; the first match wins
    sender_fqdn: bool = False
    sender_known: bool = False  # its domain has MX or address
    client_named: bool = False  # its address has a name in DNS
    early_talkers: bool = False  # are refused
    rate_per_minute: int = 0  # new connections of one client; 0: unlimited
    helo_required: bool = True
    helo_fqdn: bool = False
    helo_known: bool = False  # the name has MX or address
    vrfy_off: bool = False
    early_pipelining: bool = False  # is refused


@dataclass(frozen=True, slots=True)
class Shape:
    """What mail servers whose names match `mx` get from each process of ours; 0: no limit of its own."""

    name: str
    mx: str
    connections: int = 0  # at a time
    messages: int = 0  # over one connection
    per_minute: int = 0  # messages


@dataclass(frozen=True, slots=True)
class Pool:
    """The pods for mass mailings. Limits are of the whole pool, in recipients at other servers; 0: none."""

    hostname: str  # said in EHLO
    source: str | None = None  # address from which it connects
    unsubscribe: str | None = None  # URL before /unsubscribe, at which recipients leave
    processes: int = 1  # among which the limits are shared out
    tenant_per_hour: int = 0
    tenant_per_day: int = 0
    campaign_per_hour: int = 0
    campaign_per_day: int = 0
    warm_up_start: str | None = None  # YYYY-MM-DD
    warm_up: tuple[int, ...] = ()  # of the whole pool: on that day, on the one after it …
    peers: tuple[str, ...] = ()  # endpoints (host:port) at which its pods take each other's queue
    complaints: Address | None = None  # at which reports about its mailings arrive (RFC 5965)


@dataclass(frozen=True, slots=True)
class Shard:
    """One store pod: the endpoints (host:port) of its LMTP and of its quota-status policy service."""

    lmtp: str
    quota: str


@dataclass(frozen=True, slots=True)
class Server:
    """What holds for the whole installation: identity, who may relay, limits. Networks are CIDRs."""

    hostname: str
    certified: str | None = None  # the name that its certificate must hold; None: whatever it holds
    banner: str | None = None  # text after the host name in the 220 greeting
    help_url: str | None = None  # named in `550 relay not permitted`
    lan: tuple[str, ...] = ()  # networks of R-004-16's `lan`
    trusted: tuple[str, ...] = ()  # networks that relay without AUTH (R-003-10)
    auth_required: bool = False  # every client must authenticate, also on port 25 (R-003-01)
    skip_lan: bool = False  # clients of `lan` relay without AUTH (R-003-03)
    sender_must_match: bool = False  # R-003-04
    tls_required: bool = True  # no AUTH before TLS (R-001-44)
    max_message_bytes: int = 50_000_000
    max_recipients: int = 1000  # per transaction, as given by the client
    max_hops: int = 50  # Received fields
    max_connections_per_client: int = 0  # 0: unlimited
    postmasters: tuple[Address, ...] = ()  # R-003-07
    smarthost: Smarthost | None = None
    direct: bool = False  # without a smarthost mail for other servers goes to theirs, by MX
    routes: tuple[Route, ...] = ()  # exceptions from both; the first that matches holds
    screening: Screening = field(default_factory=Screening)
    resolvers: tuple[str, ...] = ()  # DNS servers, in order; none: the system's
    # Domains whose mail is taken for another server: that server, or "" for those that their MX records name.
    relayed: Mapping[DomainName, str] = field(default_factory=dict)
    shards: tuple[Shard, ...] = ()
    peers: tuple[str, ...] = ()  # endpoints (host:port) at which the smtp pods take each other's queue
    bulk: Pool | None = None
    shaping: tuple[Shape, ...] = ()  # before what is shipped


@dataclass(frozen=True, slots=True)
class DkimKey:
    """A key that signs. `private` is PKCS #8 in DER in base64; its public half is in DNS by now."""

    selector: str
    algorithm: Literal["rsa", "ed25519"]
    private: str


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain that mail is taken for. `users_of` names the domain whose users it shares, if not its own.

    `dkim`: what signs its mail, and that of the domains that share its users.
    """

    number: int
    users_of: DomainName | None = None
    catch_all: Address | None = None
    dkim: tuple[DkimKey, ...] = ()
    bulk: bool = True  # its users may send by the bulk pool


@dataclass(frozen=True, slots=True)
class AddressEntry:
    """Where an address leads: one account, or further addresses. `source` names the object that says so."""

    source: str
    account: AccountId | None = None
    targets: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """A mailbox: the store shard that owns it, and its quota in bytes (None: unlimited)."""

    address: Address
    shard: int
    quota: int | None = None
    smarthost: tuple[str, str] | None = None  # its own user name and password there


@dataclass(frozen=True)
class Bucket:
    """The records of one directory file."""

    domains: Mapping[DomainName, Domain] = field(default_factory=dict)
    addresses: Mapping[Address, AddressEntry] = field(default_factory=dict)
    accounts: Mapping[AccountId, Account] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Credential:
    """How one account logs in. `hash` is in a Dovecot scheme, e.g. {ARGON2ID}$argon2id$…; None locks it.

    `logins` are the accepted forms alone: the account's id is a login only if it is among them.
    """

    logins: tuple[str, ...]
    hash: str | None = None
    services: Mapping[Service, Access] = field(default_factory=dict)  # absent: off
    shard: int = 0
    quota: int | None = None  # bytes
    mailbox: bool = True  # False: an administrator's login without mail
    address: Address | None = None  # of the mailbox: what its filters send is from there
    former: Address | None = None  # whose mailbox it takes over; nobody else's who has that address later


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What the store must know beside the accounts: networks, retention, and where the other shards are."""

    hostname: str
    lan: tuple[str, ...] = ()
    tls_required: bool = True
    retention_seconds: int = 30 * 86400  # parked mailboxes are purged after it
    confirmed_shrink: str | None = None  # the guard's token that an administrator confirmed
    wiped: tuple[int, ...] = ()  # numbers of deleted domains whose parked mail is to go at once (R-000-17)
    shards: tuple[Mapping[Service, str], ...] = ()  # of each store pod: endpoints (host:port) for its logins
    smtp: tuple[str, ...] = ()  # endpoints (host:port) of smtp pods that take what filters send
    redirects: bool = True  # filters of users may (R-003-08)


@dataclass(frozen=True)
class Credentials:
    """The records of one credentials file."""

    accounts: Mapping[AccountId, Credential] = field(default_factory=dict)
