"""May this RelayPolicy rule its MailServer, do its rules agree, and is all there that it names?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mail_operator.kinds.meta import ObjectRef
from mail_operator.kinds.relaypolicy import RelayPolicySpec
from mail_operator.policies import secret
from mail_operator.policies.secret import SecretFacts
from mail_operator.policies.verdict import Verdict, missing_server

TENANT_FIELDS = ("lists",)  # of the spec, which a policy outside of its server's namespace may set


@dataclass(frozen=True, slots=True)
class RelayFacts:
    """A policy, its server, and the Secrets that it names."""

    namespace: str
    spec: RelayPolicySpec
    server_ref: ObjectRef
    hostnames: Sequence[str] = ()  # of its server; none where that does not exist
    domains: Sequence[str] = ()  # that the server serves for this namespace
    secrets: Sequence[SecretFacts] = ()

    @property
    def is_tenants(self) -> bool:
        """Whether it governs domains of its namespace alone, and not the server."""
        return self.namespace != self.server_ref.namespace


def server_missing(facts: RelayFacts) -> Verdict | None:
    """The server must exist."""
    return missing_server(facts.server_ref, bool(facts.hostnames))


def widens_platform(facts: RelayFacts) -> Verdict | None:
    """A tenant governs who may write to its domains; the server is the platform's."""
    if not facts.is_tenants:
        return None
    name = {field: info.alias or field for field, info in RelayPolicySpec.model_fields.items()}
    beyond = sorted(name[f] for f in facts.spec.model_fields_set - {"server_ref", *TENANT_FIELDS})
    if not beyond:
        return None
    return Verdict(
        "PlatformOnly",
        f"spec.{beyond[0]} is for policies in the server's namespace {facts.server_ref.namespace} alone: "
        "remove it, or have the platform team write it there. The lists of this one are in force.",
    )


def governs_nothing(facts: RelayFacts) -> Verdict | None:
    """A tenant's policy needs a domain."""
    if not facts.is_tenants or facts.domains:
        return None
    message = f"{facts.server_ref} serves no domain of namespace {facts.namespace}: nothing to govern yet."
    return Verdict("NoDomain", message, waits=True)


def contradiction(facts: RelayFacts) -> Verdict | None:
    """The same criteria cannot be allowed and denied: the allow list would always win."""
    allowed = {rule.criteria: rule.name for rule in facts.spec.lists.allow}
    for rule in facts.spec.lists.deny:
        if rule.criteria in allowed:
            return Verdict(
                "Contradiction",
                f"spec.lists.allow {allowed[rule.criteria]!r} and spec.lists.deny {rule.name!r} have equal "
                "criteria: the first wins, so remove one.",
            )
    return None


def unreachable_rule(facts: RelayFacts) -> Verdict | None:
    """A delivery rule behind one with the same match is never used."""
    seen: dict[tuple[str | None, str | None], str] = {}
    for rule in facts.spec.outbound.rules:
        match = (rule.sender, rule.recipient)
        if match in seen:
            return Verdict(
                "Contradiction",
                f"spec.outbound.rules {rule.name!r} matches the mail of {seen[match]!r} before it, and is "
                "never used: remove one.",
            )
        seen[match] = rule.name
    return None


def loop(facts: RelayFacts) -> Verdict | None:
    """Mail must not go to the server itself."""
    for field, smarthost in facts.spec.smarthosts():
        if smarthost.host in facts.hostnames:
            return Verdict(
                "Loop", f"{field}.host {smarthost.host} is this server: mail would come back. Name another."
            )
    return None


def lan_missing(facts: RelayFacts) -> Verdict | None:
    """An exception for the LAN needs one."""
    if facts.spec.auth.skip_lan and not facts.spec.lan_networks:
        return Verdict(
            "NoLan", "spec.auth.skipLan has no effect without spec.lanNetworks: name the networks of the LAN."
        )
    return None


def secret_unusable(facts: RelayFacts) -> Verdict | None:
    """Credentials of smarthosts must be readable; without them, those would refuse the mail."""
    return next((verdict for each in facts.secrets if (verdict := secret.unusable(each))), None)


Rule = Callable[[RelayFacts], Verdict | None]

# A policy that breaks one of these has no effect.
REFUSALS: list[Rule] = [server_missing]

# One that breaks one of these works, but for what is named: mail for a smarthost without its Secret waits.
FAULTS: list[Rule] = [
    widens_platform,
    governs_nothing,
    contradiction,
    unreachable_rule,
    loop,
    lan_missing,
    secret_unusable,
]
