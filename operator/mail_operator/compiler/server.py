"""What one MailServer leads to: its settings for mail pods, its Kubernetes objects, its status."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mail_operator.compiler import network, numbers, objects, zones
from mail_operator.compiler.domain_plan import BUCKETS
from mail_operator.compiler.plan import Dependencies, GeneratedSecret, Manifest, Status
from mail_operator.compiler.snapshot import Question, SecretProblem, Snapshot
from mail_operator.compiler.status import Condition, condition, ready, status
from mail_operator.compiler.topology import resolvers, server_of
from mail_operator.components import BULK, SMTP, STORE
from mail_operator.components.installation import Installation
from mail_operator.kinds.mailserver import MailServer
from mail_operator.kinds.meta import ObjectRef, ServerRef
from mail_operator.kinds.relaypolicy import RelayPolicy, RelayPolicySpec
from mail_operator.kinds.relaypolicy import Smarthost as GivenSmarthost
from mail_operator.kinds.values import quantity_bytes
from mail_operator.policies import certificate as certificate_rules
from mail_operator.policies import relay as rules
from mail_operator.policies.certificate import CertificateFacts
from mail_operator.policies.relay import RelayFacts
from mail_operator.policies.verdict import Verdict, first
from mailpods.directory.records import (
    Address,
    DomainName,
    ListRule,
    Pool,
    Route,
    Screening,
    Server,
    Shape,
    Shard,
    Smarthost,
    StoreSettings,
)
from mailpods.directory.shards import SERVER_FILE, STORE_FILE, encode_server, encode_store

CONFIRM_REMOVAL = "mailpods.io/confirm-removal"  # annotation: the sudden removal that was meant
VERSIONS = "versions.json"  # key of a credentials Secret
_DAY = 86400
_KEYS = ("username", "password")


@dataclass
class ServerOutcome:
    """Settings, objects without those of the buckets, statuses of the server and its policies."""

    main: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)  # mount -> (file name, bytes)
    objects: tuple[Manifest, ...] = ()
    statuses: dict[ObjectRef, Status] = field(default_factory=dict)
    dependencies: dict[ObjectRef, Dependencies] = field(default_factory=dict)
    secrets: tuple[GeneratedSecret, ...] = ()
    questions: tuple[Question, ...] = ()
    prunable: tuple[ObjectRef, ...] = ()


def installation(server: MailServer, image: str) -> Installation:
    """What the builders of objects need of a MailServer."""
    return Installation(server, image, BUCKETS)


def build_server(
    server: MailServer,
    policies: Sequence[RelayPolicy],
    counts: tuple[int, int],
    wiped: Collection[int],
    tenants: Mapping[str, Sequence[str]],
    names: Sequence[str],
    numbered: Mapping[str, int],
    owned: Mapping[str, ObjectRef],
    snapshot: Snapshot,
) -> ServerOutcome:
    """Everything of a server but its domains.

    `policies`: the oldest first; `counts`: domains, mailboxes; `wiped`: numbers of domains deleted for good;
    `tenants`: namespace -> names of its domains here; `names`: what these call the server besides;
    `numbered`: domain -> number; `owned`: name -> its domain.
    """
    at = installation(server, snapshot.image)
    verdicts = {
        policy.ref: policy_verdicts(policy, server, tenants.get(policy.metadata.namespace, ()), snapshot)
        for policy in policies
    }
    effective = [policy for policy in policies if verdicts[policy.ref][0] is None]
    record = server_record(at, server, effective, tenants, snapshot)
    at = replace(at, record=record)
    if server.spec.tls.issuer_ref:  # who would not sign anything if one of the names led elsewhere
        names = list(zones.leading(names, server.spec.hostname, record.resolvers, snapshot.answers))
    certified = tuple(dict.fromkeys((*server.hosts, *names)))
    store = StoreSettings(
        hostname=server.spec.hostname,
        lan=record.lan,
        tls_required=record.tls_required,
        retention_seconds=server.spec.store.retention_days * _DAY,
        confirmed_shrink=server.metadata.annotations.get(CONFIRM_REMOVAL),
        shards=tuple(network.login_endpoints(at, n) for n in range(server.spec.store.shards)),
        wiped=tuple(sorted(wiped)),
        smtp=record.peers,
        redirects=all(
            policy.spec.auto_forward for policy in effective if policy.metadata.namespace == at.namespace
        ),
    )
    out = ServerOutcome(
        main={
            "directory": (SERVER_FILE, encode_server(record)),
            "credentials": (STORE_FILE, encode_store(store)),
        },
        objects=(
            *([ledger] if (ledger := numbers.ledger(at, numbered, owned, wiped, snapshot)) else []),
            *certificates(at, server, certified),
            *objects.objects(at, snapshot.components),
        ),
        secrets=tuple(generated_secrets(at, server, certified)),
        prunable=tuple(_prunable(at, server, snapshot)),
    )
    addresses = server.spec.addresses or snapshot.addresses.get(server.ref, ())
    hosts = list(zones.of_hosts(server.hosts, addresses))
    asked = zones.questions(hosts, record.resolvers)
    for policy in policies:
        refusal, fault = verdicts[policy.ref]
        conditions, shown = ready(refusal or fault, f"In force at {server.ref}."), {}
        relayed = {each.domain: each.next_hop or "" for each in policy.spec.inbound.domains}
        if relayed and policy in effective and policy.metadata.namespace == at.namespace:
            own = (record.hostname, *server.hosts)
            conditions += zones.relayed(relayed, own, record.resolvers, snapshot.answers)
            exchangers = [zones.mail_exchanger(domain, record.hostname) for domain in relayed]
            asked += zones.questions(exchangers, record.resolvers)
            shown = {"dns": {"records": [*exchangers, *zones.of_hosts([record.hostname], addresses)]}}
        out.statuses[policy.ref] = status(policy, conditions, shown)
        if refusal is None:
            out.dependencies[policy.ref] = Dependencies(server.ref, frozenset({SERVER_FILE, STORE_FILE}))
    out.questions = tuple(asked)
    of_names = zones.complete(hosts, record.resolvers, snapshot.answers) if hosts else None
    fault = _tls_fault(at, server, snapshot)
    out.statuses[server.ref] = _server_status(at, server, record, counts, fault, hosts, of_names)
    out.dependencies[server.ref] = Dependencies(
        server.ref, frozenset({SERVER_FILE, STORE_FILE}), frozenset(range(server.spec.store.shards))
    )
    return out


def _server_status(
    at: Installation,
    server: MailServer,
    record: Server,
    counts: tuple[int, int],
    fault: Verdict | None,
    hosts: Sequence[zones.Record],
    of_names: Condition | None,
) -> Status:
    onward = "Mail for other servers "
    if record.smarthost:
        onward += f"goes to {record.smarthost.host}."
    else:
        onward += "goes to theirs." if record.direct else "is refused until its smarthost is set."
    conditions = ready(fault, f"Serves {counts[0]} domains. {onward}")
    conditions.append(condition("Accepting", True, "Serving", "Takes mail."))
    if of_names:
        conditions.append(of_names)
    shown = {
        "domains": counts[0],
        "mailboxes": counts[1],
        "replicas": server.spec.smtp.replicas,
        "selector": ",".join(f"{k}={v}" for k, v in at.labels("smtp").items()),
        "endpoints": network.endpoints(server.spec.hostname),
        "dns": {"records": hosts} if hosts else None,
    }
    return status(server, conditions, shown)


def _tls_fault(at: Installation, server: MailServer, snapshot: Snapshot) -> Verdict | None:
    """What is wrong with a certificate that somebody else makes."""
    tls = server.spec.tls
    if tls.secret_name is None and tls.issuer_ref is None:
        return None
    found = snapshot.secrets.get((at.namespace, at.tls_secret))
    problem = found if isinstance(found, SecretProblem) else None
    facts = CertificateFacts(
        secret=f"{at.namespace}/{at.tls_secret}",
        found=None if isinstance(found, SecretProblem) else found,
        host=server.spec.hostname,
        issued=tls.issuer_ref is not None,
        describes=f"kubectl describe certificate {at.name} -n {at.namespace}",
        unreadable=(problem.reason, problem.message) if problem else None,
        now=snapshot.now,
    )
    return first(certificate_rules.FAULTS, facts)


def orphaned(policy: RelayPolicy, snapshot: Snapshot) -> Status:
    """The status of a policy whose server does not exist."""
    refusal, _ = policy_verdicts(policy, None, (), snapshot)
    return status(policy, ready(refusal, ""), {})


def policy_verdicts(
    policy: RelayPolicy, server: MailServer | None, domains: Sequence[str], snapshot: Snapshot
) -> tuple[Verdict | None, Verdict | None]:
    """(why it has no effect, what of it does not work)."""
    namespace = policy.metadata.namespace
    references = [s.auth_secret_ref for _, s in policy.spec.smarthosts() if s.auth_secret_ref]
    facts = RelayFacts(
        namespace=namespace,
        spec=policy.spec,
        server_ref=server_of(policy),
        hostnames=server.hosts if server else (),
        domains=domains,
        secrets=[snapshot.secret_facts((namespace, reference.name), _KEYS) for reference in references],
    )
    return first(rules.REFUSALS, facts), first(rules.FAULTS, facts)


def server_record(
    at: Installation,
    server: MailServer,
    policies: Sequence[RelayPolicy],
    tenants: Mapping[str, Sequence[str]],
    snapshot: Snapshot,
) -> Server:
    """The policies of a server, added up: networks and postmasters join, of bounds the tightest holds.

    Without any policy the defaults of one hold. Of tenants' policies only the lists count, for their domains.
    """
    everybodys, policies = policies, [p for p in policies if p.metadata.namespace == at.namespace]
    specs = [policy.spec for policy in policies] or [RelayPolicySpec(server_ref=ServerRef(name=at.name))]
    lan = [str(n.cidr) for spec in specs for n in spec.lan_networks]
    trusted = [str(n.cidr) for spec in specs for n in spec.outbound.trusted]
    postmasters = [Address(p.lower()) for spec in specs for p in spec.external_postmasters]
    concurrent = [n for spec in specs if (n := spec.connection_policy.max_concurrent)]
    return Server(
        hostname=next((h for spec in specs if (h := spec.profile.hostname)), server.spec.hostname),
        certified=server.spec.hostname,
        banner=next((b for spec in specs if (b := spec.profile.banner)), None),
        help_url=next((u for spec in specs if (u := spec.profile.help_url)), _help_url(server)),
        lan=tuple(dict.fromkeys(lan)),
        trusted=tuple(dict.fromkeys(trusted)),
        auth_required=any(spec.auth.required for spec in specs),
        skip_lan=any(spec.auth.skip_lan for spec in specs),
        sender_must_match=any(spec.auth.sender_must_match for spec in specs),
        tls_required=any(spec.tls.required for spec in specs),
        max_message_bytes=min(quantity_bytes(spec.limits.message_size) for spec in specs),
        max_recipients=min(spec.limits.recipients for spec in specs),
        max_hops=min(spec.limits.hops for spec in specs),
        max_connections_per_client=min(concurrent, default=0),
        postmasters=tuple(dict.fromkeys(postmasters)),
        smarthost=next((s for p in policies if (s := _smarthost(p, snapshot))), None),
        # Where a smarthost is wanted and has a fault, mail must not take another way.
        direct=all(spec.outbound.mode == "direct" for spec in specs),
        routes=tuple(route for policy in policies for route in _routes(policy, snapshot)),
        shaping=tuple(
            Shape(r.name, r.mx, r.connections or 0, r.messages_per_connection or 0, r.per_minute or 0)
            for spec in specs
            for r in spec.outbound.shaping
        ),
        screening=_screening(specs, _lists(everybodys, at, tenants)),
        resolvers=resolvers(policies, at.namespace),
        relayed={  # of two policies with one domain the older one's next hop holds
            DomainName(relayed.domain): relayed.next_hop or ""
            for spec in reversed(specs)
            for relayed in spec.inbound.domains
        },
        shards=tuple(
            Shard(network.pod_endpoint(at, STORE, n, "lmtp"), network.pod_endpoint(at, STORE, n, "quota"))
            for n in range(server.spec.store.shards)
        ),
        # Of one pod, too: those that leave it behind give it their queues.
        peers=network.peers(at, SMTP),
        bulk=_bulk(at, server),
    )


def _help_url(server: MailServer) -> str | None:
    """The portal's page about refusals."""
    portal = server.spec.portal
    return f"{portal.url.rstrip('/')}/#sending" if portal.replicas and portal.url else None


def _bulk(at: Installation, server: MailServer) -> Pool | None:
    pool = server.spec.bulk
    if not pool.replicas:
        return None
    limits, warm_up = pool.limits, pool.limits.warm_up
    return Pool(
        hostname=pool.hostname or f"bulk.{server.spec.hostname}",
        source=pool.source_address,
        unsubscribe=pool.unsubscribe_url.rstrip("/") if pool.unsubscribe_url else None,
        processes=pool.replicas * pool.workers,
        tenant_per_hour=limits.tenant_per_hour or 0,
        tenant_per_day=limits.tenant_per_day or 0,
        campaign_per_hour=limits.campaign_per_hour or 0,
        campaign_per_day=limits.campaign_per_day or 0,
        warm_up_start=warm_up.start if warm_up else None,
        warm_up=tuple(warm_up.per_day) if warm_up else (),
        peers=network.peers(at, BULK),
        complaints=Address(pool.complaints_to.lower()) if pool.complaints_to else None,
    )


def _smarthost(policy: RelayPolicy, snapshot: Snapshot) -> Smarthost | None:
    """The policy's smarthost; None where its credentials are not there, for it would refuse the mail."""
    given = policy.spec.outbound.smarthost
    if policy.spec.outbound.mode != "smarthost" or given is None:
        return None
    return _with_credentials(given, policy, snapshot)


def _routes(policy: RelayPolicy, snapshot: Snapshot) -> Iterator[Route]:
    """Its delivery rules. Where credentials are not there, mail waits for a host that cannot be."""
    for rule in policy.spec.outbound.rules:
        via = _with_credentials(rule.smarthost, policy, snapshot) if rule.smarthost else None
        if rule.smarthost and via is None:
            via = Smarthost("credentials-missing.invalid")
        yield Route(f"{policy.metadata.name}/{rule.name}", rule.sender, rule.recipient, via)


def _lists(
    policies: Sequence[RelayPolicy], at: Installation, tenants: Mapping[str, Sequence[str]]
) -> tuple[ListRule, ...]:
    """Allow first, then deny; of several policies the older one's first."""
    found: list[ListRule] = []
    for part in ("allow", "deny"):
        for policy in policies:
            namespace = policy.metadata.namespace
            scope = () if namespace == at.namespace else tuple(map(DomainName, tenants.get(namespace, ())))
            if namespace != at.namespace and not scope:
                continue
            for rule in getattr(policy.spec.lists, part):
                given = rule.criteria.model_dump(exclude_none=True)
                found.append(ListRule(rule.name, rule.action, **given, scope=scope))
    return tuple(found)


def _screening(specs: Sequence[RelayPolicySpec], lists: tuple[ListRule, ...]) -> Screening:
    rates = [n for spec in specs if (n := spec.connection_policy.rate_per_minute)]
    return Screening(
        lists=lists,
        sender_fqdn=any(spec.sender_policy.reject_non_fqdn for spec in specs),
        sender_known=any(spec.sender_policy.reject_unknown_domain for spec in specs),
        client_named=any(spec.connection_policy.require_ptr for spec in specs),
        early_talkers=any(spec.connection_policy.reject_early_talkers for spec in specs),
        rate_per_minute=min(rates, default=0),
        helo_required=any(spec.helo.required for spec in specs),
        helo_fqdn=any(spec.helo.fqdn for spec in specs),
        helo_known=any(spec.helo.known for spec in specs),
        vrfy_off=any(spec.advanced.disable_vrfy for spec in specs),
        early_pipelining=any(spec.advanced.refuse_early_pipelining for spec in specs),
    )


def _with_credentials(given: GivenSmarthost, policy: RelayPolicy, snapshot: Snapshot) -> Smarthost | None:
    """None where its credentials are not there."""
    username = password = None
    if given.auth_secret_ref:
        found = snapshot.secrets.get((policy.metadata.namespace, given.auth_secret_ref.name))
        if not isinstance(found, Mapping) or any(key not in found for key in _KEYS):
            return None
        username, password = (found[key].decode("utf-8", "replace").strip() for key in _KEYS)
    return Smarthost(given.host, given.port, given.tls, username, password, given.per_account_auth)


def generated_secrets(
    at: Installation, server: MailServer, names: tuple[str, ...]
) -> Iterator[GeneratedSecret]:
    """The certificate, where nobody else makes one, and the installation's key."""
    if server.spec.tls.secret_name is None and server.spec.tls.issuer_ref is None:
        yield GeneratedSecret("tls", at.namespace, at.tls_secret, at.ref, names)
    yield GeneratedSecret("key", at.namespace, at.key_secret, at.ref)


def certificates(at: Installation, server: MailServer, names: Sequence[str]) -> Iterator[Manifest]:
    """What cert-manager is asked for."""
    if issuer := server.spec.tls.issuer_ref:
        yield {
            "apiVersion": "cert-manager.io/v1",
            "kind": "Certificate",
            "metadata": at.metadata(at.name, "tls"),
            "spec": {
                "secretName": at.tls_secret,
                "dnsNames": list(names),
                "issuerRef": issuer.model_dump(),
                "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            },
        }


def _prunable(at: Installation, server: MailServer, snapshot: Snapshot) -> Iterator[ObjectRef]:
    """What such a server does not have, and may have had."""
    yield from objects.prunable(at, snapshot.components)
    if server.spec.tls.issuer_ref is None:
        yield ObjectRef("Certificate", at.namespace, at.name)


def encode_versions(versions: Mapping[str, tuple[str, str]]) -> bytes:
    """Of which version of which Secret (namespace/name) a hash was made; b"" where none says."""
    return json.dumps(versions, sort_keys=True, separators=(",", ":")).encode() if versions else b""


def file_secret(
    at: Installation, mount: str, name: str, file: str, data: bytes, versions: bytes = b""
) -> Manifest:
    """One file of the directory or the credentials, as the Secret that carries it.

    `versions` stay beside it for the reconciler alone: pods mount the file and nothing else.
    """
    contents = {file: data, **({VERSIONS: versions} if versions else {})}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": at.metadata(name, mount),
        "type": f"mailpods.io/{mount}",
        "data": contents,
    }
