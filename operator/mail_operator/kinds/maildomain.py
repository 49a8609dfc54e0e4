"""MailDomain: a domain, the names that share its users, and what its users may do."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from mail_operator.kinds.mailserver import LoginForm
from mail_operator.kinds.meta import (
    AGE,
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
    immutable,
    later,
)
from mail_operator.kinds.values import MOST, Count, Domain, EmailAddress, Endpoints, Host, Text


def _names_differ(spec: Any) -> bool:
    return spec.domain_name not in spec.additional_names


class Login(Part):
    """How the domain's users log in."""

    validations = (
        Rule(
            "prefix",
            "is needed by the login form prefixed: write one, e.g. xyz00",
            "!has(self.forms) || !('prefixed' in self.forms) || has(self.prefix)",
            lambda login: "prefixed" not in (login.forms or []) or login.prefix is not None,
        ),
    )

    forms: list[LoginForm] | None = Field(
        None,
        min_length=1,
        max_length=4,
        description="Accepted login forms; blank: the server's.",
        json_schema_extra=RANKING,
    )
    prefix: str | None = Field(
        None,
        max_length=20,
        pattern=r"^[a-z0-9]+$",
        description="First part of prefixed logins: xyz00-info.",
    )


class DomainAdmin(Part):
    """The domain's administrator, whose login is `<number>/maint`."""

    password_secret_ref: LocalRef | None = Field(
        None, description="Secret with key password or hash; until it is there, the login is locked."
    )


class DomainLimits(Part):
    """What the domain may hold."""

    forwarders_per_address: int = Field(20, ge=0, le=1000, description="External targets of one address.")
    aliases_per_address: int = Field(50, ge=0, le=1000, description="Aliases that lead to one mailbox.")
    mailboxes: int | None = Field(None, ge=0, le=MOST, description="Most mailboxes; blank: unlimited.")


class Bulk(Part):
    """The mass-mailing pool."""

    enabled: bool = Field(True, description="Users may send by it, where the MailServer has one.")


class Dkim(Part):
    """Signing."""

    enabled: bool = Field(
        True,
        description="Sign what its users send, by keys in the Secret <maildomain>-dkim, which is made; "
        "status.dns has the records by which receivers verify it.",
    )
    rotate_days: int | None = Field(
        None,
        ge=31,
        le=3650,
        description="After how many days new keys are made, which sign once DNS holds their records; blank: "
        "the keys stay.",
    )


class MailDomainSpec(Part):
    """A domain and its rules."""

    validations = (
        Rule(
            "additionalNames",
            "repeats domainName: remove it",
            "!has(self.additionalNames) || !(self.domainName in self.additionalNames)",
            _names_differ,
        ),
        immutable("number", blank_may_be_filled=True),
    )

    domain_name: Domain = Field(description="The domain, in lower case, as A-labels.")
    additional_names: list[Domain] = Field(
        [],
        max_length=100,
        description="Further domains with the same users: info@ is one person in all.",
        json_schema_extra=SET,
    )
    server_ref: ServerRef = Field(description="The MailServer that serves the domain.")
    number: int | None = Field(
        None,
        ge=1,
        le=999999,
        description="First part of logins: 7/info; blank: lowest free. Immutable.",
    )
    login: Login = Field(Login(), description="How its users log in.")
    admin: DomainAdmin = Field(DomainAdmin(), description="Its administrator.")
    limits: DomainLimits = Field(DomainLimits(), description="What it may hold.")
    address_conflict: Literal["Refuse", "AliasWins"] = Field(
        "Refuse", description="An alias with a mailbox's address is refused, or takes its mail."
    )
    catch_all: EmailAddress | None = Field(None, description="Where mail to unknown addresses goes.")
    deletion_policy: Literal["Delete", "Retain"] = Field(
        "Retain",
        description="What becomes of mail when the domain is deleted. Delete: its accounts, aliases and "
        "lists go, and all mail in them at once (all domains of a server, or very many, only once each is "
        "annotated mailpods.io/confirm-removal=mail). Retain: accounts stay as objects, their mail "
        "is parked, and purged after the server's store.retentionDays.",
    )
    bulk: Bulk = Field(Bulk(), description="The mass-mailing pool.")
    dkim: Dkim = Field(Dkim(), description="DKIM signing.")
    autoconfig: bool = Field(False, description="Serve client settings.", json_schema_extra=later("R-002-26"))
    hostnames: list[Host] = Field(
        [],
        max_length=10,
        description="Further names of the server, below the domain's own, e.g. imap.a.test: for status.dns "
        "and for the server's certificate; one of an issuer gets those that DNS leads to the server.",
        json_schema_extra=SET,
    )


class DomainAdminStatus(Part):
    """The domain's administrator."""

    login: Text | None = Field(None, description="The administrator's login: number/maint.")


class MailDomainStatus(Status):
    """What became of a domain."""

    number: Count | None = Field(None, description="First part of its logins.")
    mailboxes: Count | None = Field(None, description="How many mailboxes it has.")
    admin: DomainAdminStatus | None = Field(None, description="Its administrator.")
    endpoints: Endpoints | None = Field(None, description="host:port of each service.")
    dns: DnsStatus | None = Field(
        None, description="Records for its zone; DNSComplete says whether they are there."
    )


class MailDomain(Resource):
    """A domain and the names that share its users."""

    author = "domains"
    filled = ("number",)
    plural = "maildomains"
    short_name = "mdom"
    columns = (
        Column("Domain", ".spec.domainName"),
        Column("Number", ".status.number", "integer"),
        Column("Mailboxes", ".status.mailboxes", "integer"),
        READY,
        REASON._replace(wide=False),  # Deleting, and that a deletion is held, must not be overlooked
        AGE,
    )
    status_model: ClassVar[type[Status]] = MailDomainStatus

    kind: Literal["MailDomain"]
    spec: MailDomainSpec

    @property
    def dkim_secret(self) -> str:
        """The Secret with its keys, which the operator makes where nobody else did."""
        return f"{self.metadata.name}-dkim"

    def secrets(self) -> Iterator[str]:
        """That of its keys."""
        if self.spec.dkim.enabled:
            yield self.dkim_secret

    def password_secret(self) -> str | None:
        """The administrator's."""
        reference = self.spec.admin.password_secret_ref
        return reference.name if reference else None
