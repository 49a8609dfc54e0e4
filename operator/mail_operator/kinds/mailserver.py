"""MailServer: one installation of mail, by the platform team."""

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mail_operator.kinds.components_status import ComponentStatus
from mail_operator.kinds.exposure import Exposure
from mail_operator.kinds.limits import ServerLimits
from mail_operator.kinds.meta import (
    AGE,
    BY_NAME,
    RANKING,
    READY,
    REASON,
    SEQUENCE,
    SET,
    Column,
    DnsStatus,
    Part,
    Resource,
    Rule,
    Scale,
    Status,
    grows_only,
    immutable,
    later,
)
from mail_operator.kinds.pods import Pods
from mail_operator.kinds.values import (
    MOST,
    Address,
    Count,
    Date,
    EmailAddress,
    Endpoints,
    Host,
    HttpsUrl,
    Name,
    Quantity,
    Text,
)

LoginForm = Literal["numbered", "address", "generated", "prefixed"]


class AllowedNamespaces(Part):
    """Who may use the server."""

    readable_in_part = False
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


class IssuerRef(Part):
    """An issuer of cert-manager."""

    name: Name = Field(description="Its name.")
    kind: Text = Field("Issuer", description="Issuer, of this namespace, or ClusterIssuer.")
    group: Text = Field("cert-manager.io", description="Its API group, for issuers that others add.")


class Tls(Part):
    """Where the certificate comes from: a Secret, cert-manager, or else an own authority."""

    secret_name: Name | None = Field(
        None, description="Secret with tls.crt and tls.key; with issuerRef the one that cert-manager writes."
    )
    issuer_ref: IssuerRef | None = Field(
        None,
        description="Whom cert-manager asks for the certificate; on one machine an own authority stands in.",
    )


class Storage(Part):
    """The volumes."""

    validations = (
        grows_only("size"),
        grows_only("spoolSize"),
        immutable("className"),
    )

    size: Quantity = Field("10Gi", description="Size of each store shard's volume.")
    spool_size: Quantity = Field("2Gi", description="Size of each smtp pod's spool.")
    class_name: Name | None = Field(None, description="StorageClass; blank: the cluster's default.")


class Resources(Part):
    """What a container asks of its node, as in a pod's spec."""

    requests: dict[str, Quantity] = Field({}, max_length=8, description="cpu, memory: what is set aside.")
    limits: dict[str, Quantity] = Field({}, max_length=8, description="cpu, memory: what is never exceeded.")


class Smtp(Part):
    """The smtp pods."""

    replicas: int = Field(1, ge=0, le=100, description="Number of pods.")
    workers: int = Field(2, ge=1, le=64, description="Worker processes in each pod: one for each core.")
    resources: Resources = Field(
        Resources(), description="Of the container smtp; what is blank has defaults."
    )


class WarmUp(Part):
    """How many messages a new address may send: receivers distrust those that begin at full speed."""

    start: Date = Field(description="Its first day (YYYY-MM-DD), by UTC.")
    per_day: list[Annotated[int, Field(ge=0, le=MOST)]] = Field(
        [50, 100, 500, 1000, 5000, 10000, 20000, 40000],
        min_length=1,
        max_length=100,
        description="Most messages to other servers on the first day, the second …; then there is no limit.",
        json_schema_extra=SEQUENCE,
    )


class BulkLimits(Part):
    """What the pool sends to other servers, in recipients. What is over a limit waits."""

    tenant_per_hour: int | None = Field(
        None, ge=1, le=MOST, description="Most of one domain within an hour, evenly."
    )
    tenant_per_day: int | None = Field(
        None, ge=1, le=MOST, description="Most of one domain on a day, by UTC."
    )
    campaign_per_hour: int | None = Field(
        None, ge=1, le=MOST, description="Most of one campaign (header X-Campaign) within an hour, evenly."
    )
    campaign_per_day: int | None = Field(
        None, ge=1, le=MOST, description="Most of one campaign on a day, by UTC."
    )
    warm_up: WarmUp | None = Field(None, description="For a new source address; blank: it is known already.")


class BulkPool(Part):
    """The pods for mass mailings: ports, queues, host name and address of their own."""

    replicas: int = Field(0, ge=0, le=100, description="Number of pods; 0: there is no such pool.")
    workers: int = Field(1, ge=1, le=64, description="Worker processes in each pod; limits are shared out.")
    hostname: Host | None = Field(None, description="Name that it says in EHLO; blank: bulk.<hostname>.")
    source_address: Address | None = Field(
        None, description="Address, of the pod's own, from which it connects to others; blank: any."
    )
    unsubscribe_url: HttpsUrl | None = Field(
        None,
        description="https://host under which the world reaches port 8025 of its Service: mailings with "
        "X-Unsubscribe: one-click get List-Unsubscribe fields then (RFC 8058).",
    )
    complaints_to: EmailAddress | None = Field(
        None,
        description="Address, of a mailbox or alias here, to which providers send complaints (feedback "
        "loops): who complains of a mailing gets no more of them.",
    )
    node_selector: dict[str, Text] = Field(
        {}, max_length=16, description="Labels that its nodes must have, beside those of scheduling."
    )
    limits: BulkLimits = Field(BulkLimits(), description="What it sends to others at most.")
    resources: Resources = Field(Resources(), description="Of the container smtp in its pods.")


class Portal(Part):
    """The pods with pages for everybody: client settings, help, the authority's certificate."""

    replicas: int = Field(0, ge=0, le=100, description="Number of pods; 0: there are no such pages.")
    url: HttpsUrl | None = Field(
        None,
        description="https://host under which the world reaches port 80 of its Service; refusals of mail "
        "name it, unless a RelayPolicy's profile.helpUrl is set.",
    )
    resources: Resources = Field(Resources(), description="Of the container portal.")


class Store(Part):
    """The store pods."""

    shards: int = Field(1, ge=1, le=100, description="Number of store pods; a mailbox lives in one of them.")
    retention_days: int = Field(30, ge=0, le=3650, description="Days until a removed mailbox is purged.")
    resources: Resources = Field(
        Resources(), description="Of the container store; what is blank has defaults."
    )


class Toleration(Part):
    """A taint of nodes that is no obstacle, as in a pod's spec."""

    validations = (
        Rule(
            "operator",
            "must be Exists where key is blank: write it, or a key",
            "has(self.key) || self.operator == 'Exists'",
            lambda toleration: toleration.key is not None or toleration.operator == "Exists",
        ),
        Rule(
            "value",
            "goes with operator Equal: remove one of them",
            "!has(self.value) || self.operator == 'Equal'",
            lambda toleration: toleration.value is None or toleration.operator == "Equal",
        ),
        Rule(
            "tolerationSeconds",
            "goes with effect NoExecute: write that, or remove it",
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            lambda toleration: toleration.toleration_seconds is None or toleration.effect == "NoExecute",
        ),
    )

    key: Text | None = Field(None, description="The taint's key; blank with operator Exists: all.")
    operator: Literal["Exists", "Equal"] = Field("Equal", description="How to compare.")
    value: Text | None = Field(None, description="The taint's value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="The taint's effect; blank: each."
    )
    toleration_seconds: int | None = Field(
        None, ge=0, le=MOST, description="How long pods stay on a node that gets the taint; blank: for good."
    )


class Scheduling(Part):
    """Where pods run. Those of a kind are spread over nodes and zones where that is possible."""

    priority_class_name: Name | None = Field(None, description="PriorityClass: who goes when room is scarce.")
    node_selector: dict[str, Text] = Field({}, max_length=16, description="Labels that nodes must have.")
    tolerations: list[Toleration] = Field(
        [], max_length=16, description="Taints that are no obstacle.", json_schema_extra=SEQUENCE
    )


class Groupware(Part):
    """The groupware connector."""

    enabled: bool = Field(False, description="Accounts may use it.", json_schema_extra=later("R-004-15"))


class MailServerSpec(Part):
    """What the platform team decides for the whole installation."""

    hostname: Host = Field(description="Name in greetings, certificates and client settings.")
    hostnames: list[Host] = Field(
        [], max_length=50, description="Further names in the certificate.", json_schema_extra=SET
    )
    addresses: list[Address] = Field(
        [],
        max_length=16,
        description="Addresses at which the world reaches the server, for status.dns; blank: those that a "
        "load balancer gives its Service.",
        json_schema_extra=SET,
    )
    allowed_namespaces: AllowedNamespaces = Field(
        AllowedNamespaces(), description="Namespaces whose domains this server takes."
    )
    domain_verification: Literal["None", "DNS"] = Field(
        "None",
        description="DNS: a domain of another namespace acts once its zone holds the TXT record that its "
        "status.dns shows, and of two that claim a name he has it who proves it. What is served already "
        "stays until somebody else proves the name.",
    )
    tls: Tls = Field(Tls(), description="The server's certificate.")
    storage: Storage = Field(Storage(), description="Volumes for mail and spool.")
    service: Exposure = Field(Exposure(), description="How the world reaches the pods.")
    scheduling: Scheduling = Field(Scheduling(), description="Where the pods run.")
    pods: Pods = Field(Pods(), description="What is added to each pod.")
    smtp: Smtp = Field(Smtp(), description="The pods that speak SMTP.")
    bulk: BulkPool = Field(BulkPool(), description="The pods for mass mailings.")
    portal: Portal = Field(Portal(), description="The pods with pages for everybody.")
    store: Store = Field(Store(), description="The pods that keep mailboxes (IMAP, POP3).")
    login_forms: list[LoginForm] = Field(
        ["numbered", "address"],
        min_length=1,
        max_length=4,
        description="Logins, unless a domain differs.",
        json_schema_extra=RANKING,
    )
    limits: ServerLimits = Field(ServerLimits(), description="What the installation may hold.")
    groupware: Groupware = Field(Groupware(), description="The groupware connector.")


class MailServerStatus(Status):
    """What became of an installation."""

    domains: Count | None = Field(None, description="How many domains it serves.")
    mailboxes: Count | None = Field(None, description="How many mailboxes it serves.")
    replicas: Count | None = Field(None, description="How many smtp pods it has.")
    selector: Text | None = Field(None, description="Labels of the smtp pods, for autoscalers.")
    endpoints: Endpoints | None = Field(None, description="host:port of each service.")
    components: list[ComponentStatus] = Field(
        [], max_length=20, description="Its pods, by component.", json_schema_extra=BY_NAME
    )
    dns: DnsStatus | None = Field(
        None, description="Addresses of its names, once it has some; DNSComplete says whether DNS knows them."
    )


LONGEST_NAME = 45
_NAME = rf"^[a-z]([-a-z0-9]{{0,{LONGEST_NAME - 2}}}[a-z0-9])?$"


class MailServer(Resource):
    """One installation: who may use it, and what it runs on."""

    author = "platform"
    owns = True
    plural = "mailservers"
    short_name = "msrv"
    columns = (
        Column("Hostname", ".spec.hostname"),
        Column("Domains", ".status.domains", "integer"),
        Column("Mailboxes", ".status.mailboxes", "integer"),
        READY,
        Column("Components", '.status.conditions[?(@.type=="ComponentsReady")].reason'),
        REASON,
        AGE,
    )
    status_model: ClassVar[type[Status]] = MailServerStatus
    validations = (
        # Services and labels carry at most 63 characters, StatefulSets 52 (a hash stands behind them), and
        # their names end with a component's.
        Rule(
            "metadata.name",
            f"is none that Services and StatefulSets can begin with: write at most {LONGEST_NAME} lower-case "
            "letters, digits and hyphens, a letter first (DNS-1035)",
            f"self.metadata.name.matches('{_NAME}')",
            lambda server: re.fullmatch(_NAME, server.metadata.name) is not None,
        ),
    )
    scale = Scale(".spec.smtp.replicas", ".status.replicas", ".status.selector")

    kind: Literal["MailServer"]
    spec: MailServerSpec

    @property
    def hosts(self) -> tuple[str, ...]:
        """All names that its spec gives it."""
        return self.spec.hostname, *self.spec.hostnames

    def secrets(self) -> Iterator[str]:
        """That of its certificate, unless the operator makes it."""
        if self.spec.tls.secret_name or self.spec.tls.issuer_ref:
            yield self.certificate_secret

    @property
    def certificate_secret(self) -> str:
        """The Secret with the certificate, whoever writes it."""
        tls = self.spec.tls
        return tls.secret_name or f"{self.metadata.name}-{'certificate' if tls.issuer_ref else 'tls'}"
