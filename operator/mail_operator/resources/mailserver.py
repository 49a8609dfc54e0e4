"""MailServer: one installation of mail, by the platform team."""

from typing import ClassVar, Literal

from pydantic import Field

from mail_operator.resources.meta import (
    AGE,
    READY,
    REASON,
    Column,
    Endpoints,
    Host,
    Name,
    Part,
    Quantity,
    Resource,
    Rule,
    Scale,
    Status,
    Text,
    later,
)

LoginForm = Literal["numbered", "address", "generated", "prefixed"]


class AllowedNamespaces(Part):
    """Who may use the server."""

    validations = (
        Rule(
            "matchLabels",
            "goes with from: Selector, and that with matchLabels: write both or neither",
            "(self.from == 'Selector') == (has(self.matchLabels) && size(self.matchLabels) > 0)",
            lambda allowed: (allowed.from_ == "Selector") == bool(allowed.match_labels),
        ),
    )

    from_: Literal["Same", "All", "Selector"] = Field(
        "Same",
        alias="from",
        description="This namespace, all, or those with `matchLabels`.",
    )
    match_labels: dict[str, Text] = Field({}, max_length=16, description="Labels of such namespaces.")


class Tls(Part):
    """Where the certificate comes from."""

    secret_name: Name | None = Field(
        None, description="Secret with tls.crt, tls.key and ca.crt; blank: one is made by an own authority."
    )


class Storage(Part):
    """The volumes."""

    size: Quantity = Field("10Gi", description="Size of each store shard's volume.")
    spool_size: Quantity = Field("2Gi", description="Size of each smtp pod's spool.")
    class_name: Name | None = Field(None, description="StorageClass; blank: the cluster's default.")


class Smtp(Part):
    """The smtp pods."""

    replicas: int = Field(1, ge=0, le=100, description="Number of pods.")
    workers: int = Field(2, ge=1, le=64, description="Worker processes in each pod: one for each core.")


class Store(Part):
    """The store pods."""

    shards: int = Field(1, ge=1, le=100, description="Number of store pods; a mailbox lives in one of them.")
    retention_days: int = Field(30, ge=0, le=3650, description="Days until a removed mailbox is purged.")


class ServerLimits(Part):
    """What an installation may hold."""

    domains: int | None = Field(None, ge=1, description="Most domains; blank: unlimited.")


class Groupware(Part):
    """The groupware connector."""

    enabled: bool = Field(False, description="Accounts may use it.", json_schema_extra=later("R-004-15"))


class MailServerSpec(Part):
    """What the platform team decides for the whole installation."""

    hostname: Host = Field(description="Name in greetings, certificates and client settings.")
    hostnames: list[Host] = Field([], max_length=50, description="Further names in the certificate.")
    allowed_namespaces: AllowedNamespaces = Field(
        AllowedNamespaces(), description="Namespaces whose domains this server takes."
    )
    tls: Tls = Field(Tls(), description="The server's certificate.")
    storage: Storage = Field(Storage(), description="Volumes for mail and spool.")
    smtp: Smtp = Field(Smtp(), description="The pods that speak SMTP.")
    store: Store = Field(Store(), description="The pods that keep mailboxes (IMAP, POP3).")
    login_forms: list[LoginForm] = Field(
        ["numbered", "address"],
        min_length=1,
        max_length=4,
        description="Logins, unless a domain differs.",
    )
    limits: ServerLimits = Field(ServerLimits(), description="What the installation may hold.")
    groupware: Groupware = Field(Groupware(), description="The groupware connector.")


class MailServerStatus(Status):
    """What became of an installation."""

    domains: int | None = Field(None, ge=0, description="How many domains it serves.")
    mailboxes: int | None = Field(None, ge=0, description="How many mailboxes it serves.")
    replicas: int | None = Field(None, ge=0, description="How many smtp pods it has.")
    selector: Text | None = Field(None, description="Labels of the smtp pods, for autoscalers.")
    endpoints: Endpoints | None = Field(None, description="host:port of each service.")


class MailServer(Resource):
    """One installation: who may use it, and what it runs on."""

    plural = "mailservers"
    short_name = "msrv"
    columns = (
        Column("Hostname", ".spec.hostname"),
        Column("Domains", ".status.domains", "integer"),
        Column("Mailboxes", ".status.mailboxes", "integer"),
        READY,
        REASON,
        AGE,
    )
    status_model: ClassVar[type[Status]] = MailServerStatus
    scale = Scale(".spec.smtp.replicas", ".status.replicas", ".status.selector")

    kind: Literal["MailServer"]
    spec: MailServerSpec
