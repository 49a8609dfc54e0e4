"""What a domain adds to the directory by itself: its names, keys and administrator."""

from collections.abc import Mapping

from mail_operator.compiler import dkim, zones
from mail_operator.compiler.domain_plan import BUCKETS, DomainPlan, dependencies
from mail_operator.compiler.network import endpoints
from mail_operator.compiler.plan import GeneratedSecret
from mail_operator.compiler.snapshot import SecretName, SecretProblem, Snapshot
from mail_operator.compiler.status import condition, ready, status
from mail_operator.compiler.topology import DomainState
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies import dkim as dkim_rules
from mail_operator.policies import password as password_rules
from mail_operator.policies.dkim import DkimFacts
from mail_operator.policies.password import PasswordFacts
from mail_operator.policies.verdict import Verdict, first
from mailpods.directory.records import (
    Access,
    Account,
    AccountId,
    Address,
    Credential,
    DkimKey,
    Domain,
    DomainName,
    Service,
)
from mailpods.directory.shards import bucket_of

ADMINISTRATOR_QUOTA = 100 << 20  # bytes: everybody may write to postmaster


class DomainRecords:
    """Gathers a domain's plan in `out`, from its own part on."""

    def __init__(self, state: DomainState | None, snapshot: Snapshot) -> None:
        self.state, self.snapshot = state, snapshot
        self.out = DomainPlan()

    def _domain(self, state: DomainState, mailboxes: int) -> None:
        domain = state.domain
        if state.refusal or state.server is None:
            conditions = ready(state.refusal, "")
            conditions.append(condition("Accepting", False, conditions[0]["reason"], "Takes no mail."))
            self.out.questions = zones.questions(state.challenges, state.resolvers)
            zone = {"records": list(state.challenges)} if state.challenges else None
            self.out.statuses[domain.ref] = status(domain, conditions, {"dns": zone})
            return
        catch_all = Address(domain.spec.catch_all.lower()) if domain.spec.catch_all else None
        keys, signing, unsigned = self._dkim(state)
        hostname = state.server.spec.hostname
        records = [*state.challenges, *zones.of_domain(state.names, hostname, keys)]
        records += [zones.alias(name, hostname) for name in state.hostnames]
        self.out.questions = zones.questions(records, state.resolvers)
        bulk = domain.spec.bulk.enabled
        for name in state.names:
            own = name == state.name
            users_of = None if own else DomainName(state.name)
            record = Domain(state.number, users_of, catch_all, signing if own else (), bulk)
            self.out.records(name).domains[DomainName(name)] = self.out.domains[name] = record
        if domain.spec.number is None:
            self.out.allocations[domain.ref] = {"number": state.number}
        admin, fault = self._administrator(state)
        conditions = ready(state.fault or fault or unsigned, f"Takes mail for {', '.join(state.names)}.")
        conditions.append(condition("Accepting", True, "Serving", "Takes mail."))
        conditions.append(zones.complete(records, state.resolvers, self.snapshot.answers))
        shown = {
            "number": state.number,
            "mailboxes": mailboxes,
            "admin": {"login": admin},
            "endpoints": endpoints(hostname),
            "dns": {"records": records[: zones.MOST_RECORDS]},
        }
        self.out.statuses[domain.ref] = status(domain, conditions, shown)
        self._depend(domain.ref, *state.names, Address(f"maint@{state.name}"))

    def _dkim(
        self, state: DomainState
    ) -> tuple[list[tuple[DkimKey, str]], tuple[DkimKey, ...], Verdict | None]:
        """Its keys with their records in DNS, those that sign, and what is wrong with them."""
        if not state.domain.spec.dkim.enabled:
            return [], (), None
        meta = state.domain.metadata
        name = (meta.namespace, state.domain.dkim_secret)
        self.out.secrets_read.add(name)
        found = self.snapshot.secrets.get(name)
        keys, broken = dkim.keys_in(found) if isinstance(found, Mapping) else ([], [])
        seen = zones.seen(keys, state.names, state.resolvers, self.snapshot.answers)
        days = state.domain.spec.dkim.rotate_days
        wanted = GeneratedSecret("dkim", *name, state.domain.ref, rotate_days=days, seen=seen if days else ())
        self.out.secrets.append(wanted)
        if isinstance(found, SecretProblem):
            return [], (), Verdict(found.reason, found.message, waits=True)
        if found is None:  # it is being made
            return [], (), None
        fault = first(dkim_rules.FAULTS, DkimFacts("/".join(name), tuple(broken), bool(keys)))
        return keys, dkim.signing(keys, found), fault

    def _administrator(self, state: DomainState) -> tuple[str, Verdict | None]:
        """The domain's own administrator, locked until a password is set (R-000-08, R-000-09).

        Its mailbox gets what is sent to postmaster where nobody else does (RFC 5321 §4.5.1)."""
        login = AccountId(f"{state.number}/maint")
        hashed, fault = None, None
        if secret := state.domain.password_secret():
            name = (state.domain.metadata.namespace, secret)
            hashed, fault = self._look_up(name, f"maint@{state.name}", generated=False)
        services: dict[Service, Access] = {"portal": "everywhere", "imap": "everywhere"}
        records = self.out.records(f"maint@{state.name}")
        records.credentials[login] = Credential((login,), hashed, services, quota=ADMINISTRATOR_QUOTA)
        records.accounts[login] = Account(Address(f"maint@{state.name}"), 0, ADMINISTRATOR_QUOTA)
        return login, fault

    def _look_up(self, name: SecretName, key: str, generated: bool) -> tuple[str | None, Verdict | None]:
        """The hash in a Secret, and what is wrong with it. `key`: beside whose records it is noted."""
        self.out.secrets_read.add(name)
        found = self.snapshot.passwords.get(name)
        password = found.kept if isinstance(found, SecretProblem) else found
        facts = PasswordFacts(
            secret="/".join(name),
            generated=generated,
            readable=password is not None,
            problem=(found.reason, found.message) if isinstance(found, SecretProblem) else None,
        )
        if password and password.version:
            self.out.records(key).versions["/".join(name)] = (password.version, password.hash)
        return password.hash if password else None, first(password_rules.FAULTS, facts)

    def _address(self, local_part: str) -> str:
        return f"{local_part}@{self.state.name}" if self.state else f"{local_part}@"

    def _depend(self, ref: ObjectRef, *keys: str, shards: frozenset[int] = frozenset()) -> None:
        assert self.state is not None
        buckets = frozenset(bucket_of(key, BUCKETS) for key in keys)
        self.out.dependencies[ref] = dependencies(self.state.server_ref, buckets, shards)
