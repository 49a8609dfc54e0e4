"""Mailbox: an account, its address, its password, and the services it may use."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mail_operator.kinds.meta import (
    AGE,
    NAME_IS_LOCAL_PART,
    READY,
    REASON,
    SEQUENCE,
    SET,
    Column,
    Formerly,
    LocalRef,
    ObjectRef,
    Part,
    Resource,
    Rule,
    Status,
    immutable,
    later,
)
from mail_operator.kinds.values import PASSWORD_HASH, Date, Host, LocalPart, Quantity, Text

# YAML 1.1, which kubectl reads too, takes a bare off for false, and API servers refuse that: the word is
# disabled, and off is still understood.
Access = Annotated[Literal["everywhere", "lan", "disabled"], Formerly("off", "disabled")]


class Services(Part):
    """Where each service may be used from: everywhere, from the LAN, or not at all (disabled)."""

    validations = (
        Rule(
            "groupware",
            "needs imap: allow imap, or switch groupware off",
            "!self.groupware || !(self.imap in ['disabled', 'off'])",
            lambda services: not services.groupware or services.imap != "disabled",
        ),
    )

    imap: Access = Field("everywhere", description="IMAP.")
    pop3: Access = Field("everywhere", description="POP3.")
    sieve: Access = Field("everywhere", description="ManageSieve.")
    smtp: Access = Field("everywhere", description="Sending with the account's login.")
    webmail: Access = Field("everywhere", description="Webmail.", json_schema_extra=later("R-004-07"))
    groupware: bool = Field(False, description="Groupware.", json_schema_extra=later("R-004-13"))
    fetch: bool = Field(False, description="Fetching from elsewhere.", json_schema_extra=later("R-004-12"))


class Autoresponder(Part):
    """An automatic reply."""

    validations = (
        Rule(
            "endDate",
            "is before startDate: correct one of them",
            "!has(self.startDate) || !has(self.endDate) || self.startDate <= self.endDate",
            lambda reply: not (reply.start_date and reply.end_date) or reply.start_date <= reply.end_date,
        ),
    )

    text: Annotated[str, Field(max_length=10000)] = Field(description="The reply.")
    subject_prefix: Text | None = Field(None, description="Stands before the original subject.")
    start_date: Date | None = Field(None, description="First day (YYYY-MM-DD); blank: now.")
    end_date: Date | None = Field(None, description="Last day (YYYY-MM-DD), included; blank: no end.")


class Spam(Part):
    """Filtering of spam and viruses."""

    preset: Annotated[Literal["easy", "disabled"], Formerly("off", "disabled")] = Field(
        "easy", description="Ready-made settings."
    )
    threshold: float | None = Field(None, ge=0, le=1000, description="Score from which mail is spam.")
    action: Literal["junk", "reject"] | None = Field(
        None, description="What is done with spam: filed into Junk, or refused; blank: the preset's."
    )
    allow: list[Text] = Field(
        [], max_length=200, description="Senders or domains that are never spam.", json_schema_extra=SET
    )
    deny: list[Text] = Field(
        [], max_length=200, description="Senders or domains that always are.", json_schema_extra=SET
    )


class Fetch(Part):
    """An account at another provider."""

    protocol: Literal["imap", "pop3"] = Field("imap", description="How it is read.")
    host: Host = Field(description="The provider's server.")
    port: int | None = Field(None, ge=1, le=65535, description="Its port; blank: the protocol's.")
    tls: Literal["tls", "starttls", "none"] = Field("tls", description="How the connection is protected.")
    user: Text = Field(description="Login there.")
    secret_ref: LocalRef = Field(description="Secret with key password.")
    keep: bool = Field(True, description="Leave messages there.")


class SmarthostAuth(Part):
    """The account's own login at the smarthost."""

    username: Text | None = Field(None, description="Login; blank: the account's address.")
    password_secret_ref: LocalRef = Field(description="Secret with key password.")


class FormerAddress(Part):
    """The address that the account had under another Mailbox, whose mail and filters it takes over."""

    validations = (
        Rule(
            "",
            "names nothing: set localPart, domainRef or both",
            "has(self.localPart) || has(self.domainRef)",
            lambda former: bool(former.local_part or former.domain_ref),
        ),
        immutable("localPart"),
        immutable("domainRef"),
    )

    local_part: LocalPart | None = Field(
        None, description="What stood before the @; blank: what stands there now. Immutable."
    )
    domain_ref: LocalRef | None = Field(
        None,
        description="The MailDomain it was in, of the same namespace and server; blank: the same as now. "
        "Immutable.",
    )
    keep_as_alias: bool = Field(True, description="Mail to the former address goes on arriving here.")


def _former_is_not_added(old: "MailboxSpec", new: "MailboxSpec") -> bool:
    return new.former_address is None or old.former_address is not None


class MailboxSpec(Part):
    """An account."""

    validations = (
        Rule(
            "localPart",
            "maint is reserved for the domain's administrator: choose another",
            "!has(self.localPart) || self.localPart != 'maint'",
            lambda spec: spec.local_part != "maint",
        ),
        Rule(
            "passwordHash",
            "excludes passwordSecretRef: keep one of them",
            "!has(self.passwordHash) || !has(self.passwordSecretRef)",
            lambda spec: spec.password_hash is None or spec.password_secret_ref is None,
        ),
        immutable("domainRef"),
        immutable("localPart"),
        immutable("loginName", blank_may_be_filled=True),
        immutable("shard", blank_may_be_filled=True),
        Rule(
            "formerAddress",
            "can only be set in a new object: create one, and remove the one of the former address",
            "!has(self.formerAddress) || has(oldSelf.formerAddress)",
            admits=_former_is_not_added,
        ),
    )

    domain_ref: LocalRef = Field(description="The MailDomain, in the same namespace.")
    local_part: LocalPart | None = Field(
        None,
        description="What stands before the @; blank: metadata.name. Immutable: see formerAddress. maint is "
        "reserved.",
    )
    former_address: FormerAddress | None = Field(
        None,
        description="The address that the account had until now, under another Mailbox, which is to be "
        "removed: what is in that mailbox moves here. Only in a new object; it may be removed later.",
    )
    display_name: Text | None = Field(
        None, description="The name that recipients see.", json_schema_extra=later("R-001-41")
    )
    password_secret_ref: LocalRef | None = Field(
        None, description="Secret with key password or hash; blank: one is made, named <mailbox>-password."
    )
    password_hash: Annotated[str, Field(max_length=1000, pattern=PASSWORD_HASH)] | None = Field(
        None, description="The password as a hash in a scheme that Dovecot knows: {BLF-CRYPT}$2y$…"
    )
    quota: Quantity | None = Field(None, description="Most that the mailbox holds; blank: unlimited.")
    services: Services = Field(Services(), description="What the account may use, and from where.")
    autoresponder: Autoresponder | None = Field(
        None, description="Automatic reply.", json_schema_extra=later("R-002-13")
    )
    spam: Spam | None = Field(None, description="Spam filter.", json_schema_extra=later("R-001-26"))
    sieve: Annotated[str, Field(max_length=65536)] | None = Field(
        None, description="A Sieve script.", json_schema_extra=later("R-002-14")
    )
    fetch: list[Fetch] = Field(
        [],
        max_length=20,
        description="Accounts to fetch from.",
        json_schema_extra=SEQUENCE | later("R-002-25"),
    )
    smarthost_auth: SmarthostAuth | None = Field(
        None, description="Own login at the smarthost; counts where the RelayPolicy has perAccountAuth."
    )
    login_name: Annotated[str, Field(max_length=6, pattern=r"^[a-z][a-z0-9]{5}$")] | None = Field(
        None, description="The generated login; blank: derived from the address. Written when that is taken."
    )
    shard: int | None = Field(None, ge=0, le=99, description="The store pod that holds it; blank: the first.")


class MailboxStatus(Status):
    """What became of an account."""

    address: Text | None = Field(None, description="The address.")
    login: Text | None = Field(None, description="The first accepted login.")
    login_name: Text | None = Field(None, description="The generated login, where that form is accepted.")
    server: Text | None = Field(None, description="Host name of the server, for incoming and outgoing mail.")
    account: Text | None = Field(None, description="Name of the account in the store: number/local part.")


class Mailbox(Resource):
    """An account: it receives, and reads and sends with its login."""

    author = "users"
    filled = ("loginName", "shard")
    plural = "mailboxes"
    short_name = "mbox"
    columns = (
        Column("Login", ".status.login"),
        Column("Address", ".status.address"),
        READY,
        REASON,
        Column("Quota", ".spec.quota", wide=True),
        Column("Shard", ".spec.shard", "integer", wide=True),
        AGE,
    )
    status_model: ClassVar[type[Status]] = MailboxStatus
    validations = (
        Rule(
            "metadata.name",
            "maint is reserved for the domain's administrator: choose another",
            "has(self.spec.localPart) || self.metadata.name != 'maint'",
            lambda mailbox: bool(mailbox.spec.local_part) or mailbox.metadata.name != "maint",
        ),
        NAME_IS_LOCAL_PART,
    )

    kind: Literal["Mailbox"]
    spec: MailboxSpec

    @property
    def local_part(self) -> str:
        """What stands before the @."""
        return self.spec.local_part or self.metadata.name

    @property
    def former(self) -> tuple[ObjectRef, str] | None:
        """The MailDomain and local part that it had before; None where those are its own."""
        given, here = self.spec.former_address, (self.domain, self.local_part)
        if given is None or self.domain is None:
            return None
        name = given.domain_ref.name if given.domain_ref else self.domain.name
        former = self.domain._replace(name=name), given.local_part or self.local_part
        return None if former == here else former

    def secrets(self) -> Iterator[str]:
        """That of its login at the smarthost."""
        if self.spec.smarthost_auth:
            yield self.spec.smarthost_auth.password_secret_ref.name

    def password_secret(self) -> str | None:
        """The account's, if it names one."""
        reference = self.spec.password_secret_ref
        return reference.name if reference else None
