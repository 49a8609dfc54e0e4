"""May this MailServer serve this MailDomain?"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from mail_operator.kinds.maildomain import MailDomain
from mail_operator.kinds.mailserver import MailServer
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.verdict import Verdict


@dataclass(frozen=True)
class DomainFacts:
    """A domain, and what older domains of the same server hold."""

    domain: MailDomain
    server_ref: ObjectRef
    server: MailServer | None
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    names_taken: Mapping[str, ObjectRef] = field(default_factory=dict)  # those of this domain alone
    unproven: Collection[str] = ()  # names that nobody has proven
    proofs: Mapping[str, str] = field(default_factory=dict)  # name -> the record that proves it
    number_taken: ObjectRef | None = None
    prefix_taken: ObjectRef | None = None
    domains_before: int = 0
    hostnames_before: int = 0  # of the server and of older domains

    @property
    def names(self) -> tuple[str, ...]:
        """Those that it gets, its own first."""
        spec = self.domain.spec
        wanted = (spec.domain_name, *spec.additional_names)
        return tuple(n for n in wanted if n not in self.names_taken and n not in self.unproven)


MOST_HOSTNAMES = 100  # in one certificate: as many as authorities of the Internet take


def server_missing(facts: DomainFacts) -> Verdict | None:
    """The server must exist."""
    if facts.server:
        return None
    return Verdict(
        "ServerMissing",
        f"{facts.server_ref} does not exist: create it, or correct spec.serverRef.",
        waits=True,
    )


def namespace_not_allowed(facts: DomainFacts) -> Verdict | None:
    """The server must admit the domain's namespace."""
    assert facts.server
    allowed = facts.server.spec.allowed_namespaces
    here = facts.domain.metadata.namespace
    match allowed.from_:
        case "All":
            admitted = True
        case "Same":
            admitted = here == facts.server_ref.namespace
        case "Selector":
            admitted = allowed.match_labels.items() <= facts.namespace_labels.items()
    if admitted:
        return None
    return Verdict(
        "NamespaceNotAllowed",
        f"{facts.server_ref} does not take domains of namespace {here}: "
        "have its spec.allowedNamespaces widened, or choose another server.",
        waits=True,
    )


def name_taken(facts: DomainFacts) -> Verdict | None:
    """A domain belongs to one object: the older wins."""
    name = facts.domain.spec.domain_name
    if name not in facts.names_taken:
        return None
    return Verdict(
        "DomainNameTaken",
        f"{name} belongs to {facts.names_taken[name]}, {_why(facts, name)}: remove one of them.",
        waits=True,
    )


def _why(facts: DomainFacts, name: str) -> str:
    if name not in facts.proofs:
        return "which is older"
    return f"until DNS holds {facts.proofs[name]} and not the other's"


def unproven(facts: DomainFacts) -> Verdict | None:
    """A tenant's domain acts once its zone says that it is his, where the server asks for that."""
    return _pending(facts, facts.domain.spec.domain_name)


def additional_name_unproven(facts: DomainFacts) -> Verdict | None:
    """A further name that is not proven is left out."""
    return next((v for name in facts.domain.spec.additional_names if (v := _pending(facts, name))), None)


def _pending(facts: DomainFacts, name: str) -> Verdict | None:
    if name not in facts.unproven:
        return None
    return Verdict(
        "VerificationPending",
        f"{name} takes no mail until its zone proves that it is yours (spec.domainVerification of "
        f"{facts.server_ref}): add the record {facts.proofs.get(name)}",
        waits=True,
    )


def number_taken(facts: DomainFacts) -> Verdict | None:
    """A number names one domain: the older wins."""
    if facts.number_taken is None:
        return None
    return Verdict(
        "NumberTaken",
        f"Number {facts.domain.spec.number} belongs to {facts.number_taken}, which is older: "
        "leave spec.number blank for the lowest free one, or choose another.",
    )


def domain_limit(facts: DomainFacts) -> Verdict | None:
    """The server may bound the number of its domains."""
    assert facts.server
    limit = facts.server.spec.limits.domains
    if limit is None or facts.domains_before < limit:
        return None
    return Verdict(
        "DomainLimit",
        f"{facts.server_ref} takes at most {limit} domains (spec.limits.domains): "
        "remove one, or have the limit raised.",
        waits=True,
    )


def additional_name_taken(facts: DomainFacts) -> Verdict | None:
    """A further name that belongs to another domain is left out."""
    taken = [name for name in facts.domain.spec.additional_names if name in facts.names_taken]
    if not taken:
        return None
    return Verdict(
        "AdditionalNameTaken",
        f"{taken[0]} belongs to {facts.names_taken[taken[0]]}, {_why(facts, taken[0])}: "
        "remove it from spec.additionalNames; the other names work.",
        waits=True,
    )


def prefix_missing(facts: DomainFacts) -> Verdict | None:
    """A server may ask for prefixed logins that the domain gives no prefix for."""
    assert facts.server
    forms = facts.domain.spec.login.forms or facts.server.spec.login_forms
    if "prefixed" not in forms or facts.domain.spec.login.prefix:
        return None
    return Verdict("LoginPrefixMissing", "The login form prefixed needs one: write spec.login.prefix.")


def prefix_taken(facts: DomainFacts) -> Verdict | None:
    """A login names one account: a prefix belongs to one domain, the older."""
    if facts.prefix_taken is None:
        return None
    return Verdict(
        "LoginPrefixTaken",
        f"Login prefix {facts.domain.spec.login.prefix} belongs to {facts.prefix_taken}, which is older: "
        "choose another; the other login forms work.",
    )


def hostname_foreign(facts: DomainFacts) -> Verdict | None:
    """Nobody's certificate names what belongs to somebody else."""
    spec = facts.domain.spec
    names = facts.names
    for n, host in enumerate(spec.hostnames):
        if not any(host.endswith(f".{name}") for name in names):
            return Verdict(
                "HostnameForeign",
                f"spec.hostnames[{n}]: {host} is not below {' or '.join(names)}: "
                "choose a name of the domain's own; none of spec.hostnames is in the certificate.",
            )
    return None


def hostnames_full(facts: DomainFacts) -> Verdict | None:
    """A certificate holds so many names: those of older domains."""
    wanted = len(facts.domain.spec.hostnames)
    if not wanted or facts.hostnames_before + wanted <= MOST_HOSTNAMES:
        return None
    return Verdict(
        "HostnamesFull",
        f"The certificate of {facts.server_ref} has room for {MOST_HOSTNAMES} names, and "
        f"{facts.hostnames_before} are older: remove spec.hostnames, and use the server's own name.",
        waits=True,
    )


Rule = Callable[[DomainFacts], Verdict | None]

# A domain that breaks one of these is not served.
REFUSALS: list[Rule] = [
    server_missing,
    namespace_not_allowed,
    name_taken,
    unproven,
    number_taken,
    domain_limit,
]

# A domain that breaks one of these is served in part.
FAULTS: list[Rule] = [
    additional_name_taken,
    additional_name_unproven,
    prefix_missing,
    prefix_taken,
    hostname_foreign,
    hostnames_full,
]
