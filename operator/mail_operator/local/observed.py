"""Gathers the Snapshot of one machine: manifests, Secrets among them, and what the data folder remembers."""

import base64
import binascii
import datetime
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mail_operator.compiler.plan import GeneratedSecret, Plan
from mail_operator.compiler.snapshot import PasswordHash, Question, SecretName, SecretProblem, Snapshot
from mail_operator.engine.dns_prober import DnsProber
from mail_operator.engine.rotation import rotated
from mail_operator.engine.secrets import PasswordHashes, generate_password, make_dkim_keys, password_in
from mail_operator.kinds import KINDS, Invalid, Resource, hints, load, refused_changes
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.maildomain import MailDomain
from mail_operator.kinds.mailserver import MailServer
from mail_operator.kinds.meta import ObjectRef
from mail_operator.local.manifests import Document, Manifests, Problem
from mail_operator.local.state import State
from mail_operator.local.volumes import content

# Hashing takes 30 ms a password, a key 100, and must not hold up the rest: others follow in the next round.
_HASHING_SECONDS = 0.1
_ENDED_SECONDS = 10.0  # until a domain that is gone takes its mail along
_HASHING = SecretProblem("Hashing", "The password is being hashed; this takes a moment.")


class ObservedState:
    """What is known now. `refresh()` looks again; `snapshot` and `problems` tell."""

    def __init__(
        self,
        manifests: Manifests,
        state: State,
        one_server: bool = False,
        last_good: Mapping[str, Mapping[str, Any]] | None = None,
        asks_dns: bool = False,
    ) -> None:
        """`one_server`: of several MailServers only the oldest counts, for their ports are the same.

        `last_good`: what `last_good()` said in a former run; it stands in for what is broken at the start.
        """
        self._answered = threading.Event()  # DNS said something new
        self._dns = DnsProber(self._answered.set) if asks_dns else None
        self._questions: frozenset[Question] = frozenset()
        self._remembered = {
            ObjectRef(*name.split("/", 2)): Document(Path(each["file"]), 1, "", each["content"])
            for name, each in (last_good or {}).items()
        }
        self.manifests = manifests
        self._one_server = one_server
        self._state = state
        self._hashes = PasswordHashes(bytes.fromhex(state.hash_key), state.hashes)
        state.hashes = self._hashes.known
        self._loaded: dict[ObjectRef, tuple[Mapping[str, Any], dict[str, Any], Resource]] = {}
        self._wanted: tuple[GeneratedSecret, ...] = ()
        self._hashing = self._making = False  # passwords are yet to be hashed, keys to be made
        self._ended: dict[str, float] = {}  # delete_on_removal domains that are gone, since when
        self._served = set(state.ages)  # in a former run, or in this one
        self._places: dict[ObjectRef, Document] = {}
        self._unread: list[Problem] = []  # what the manifests could not read or parse when last gathered
        self.snapshot = Snapshot()
        self.problems: list[Problem] = []
        self.secrets: dict[SecretName, dict[str, bytes]] = {}  # given and generated

    def refresh(self) -> bool:
        """Look at the files. Returns whether the snapshot or the problems changed."""
        changed = self.manifests.refresh() or self._hashing or self._making or self._answered.is_set()
        changed |= self.manifests.problems != self._unread
        changed |= bool(self._remembered) and not self.snapshot.objects
        changed |= any(time.monotonic() - since >= _ENDED_SECONDS for since in self._ended.values())
        if changed:
            self.gather()
        return changed

    def remember(self, plan: Plan) -> bool:
        """Keep what the plan decided or wants made. Returns whether the snapshot changed by it."""
        changed = False
        self._served |= {str(ref) for ref, status in plan.statuses.items() if "account" in status}
        for ref, patch in plan.allocations.items():
            self._state.allocations.setdefault(str(ref), {}).update(patch)
            changed = True
        self._note_endings(plan)
        if self._dns and plan.questions != self._questions:
            self._questions = plan.questions
            self._dns.look(plan.questions)
        passwords = tuple(s for s in plan.secrets if s.kind != "tls")
        until = time.monotonic() + _HASHING_SECONDS
        self._making = False
        for wanted in passwords:
            if (wanted.namespace, wanted.name) in self.secrets:
                changed |= self._rotate(wanted)
                continue
            if wanted.kind != "dkim":
                self.keep(wanted, {wanted.kind: generate_password().encode()})
            elif time.monotonic() < until:
                self.keep(wanted, make_dkim_keys(datetime.datetime.now(datetime.UTC)))
            else:
                self._making = True
                continue
            changed = True
        if passwords != self._wanted:
            self._wanted, changed = passwords, True
        if changed:
            self.gather()
        return changed

    def _rotate(self, wanted: GeneratedSecret) -> bool:
        """Change the keys of a domain, if it is time and they were not given."""
        values = self._state.secret(f"{wanted.namespace}/{wanted.name}")
        if wanted.rotate_days is None or not values:
            return False
        today = datetime.datetime.now(datetime.UTC).date()
        changes = rotated(values, wanted.seen, wanted.rotate_days, today, make_dkim_keys)
        if changes:
            kept = {key: value for key, value in {**values, **changes}.items() if value is not None}
            self.keep(wanted, kept)
        return bool(changes)

    def _end_domains(self, there: set[str]) -> None:
        """Domains whose mail is to go with them: a manifest that is only being replaced comes back soon."""
        now, ended = time.monotonic(), self._state.delete_on_removal.keys() - there
        self._ended = {ref: self._ended.get(ref, now) for ref in ended}
        for ref, since in list(self._ended.items()):
            if now - since >= _ENDED_SECONDS:
                del self._ended[ref]
                self._state.wiped.append(self._state.delete_on_removal.pop(ref))

    def _served_before(self, objects: Mapping[ObjectRef, Resource]) -> frozenset[ObjectRef]:
        """Mailboxes that had mail before there were several shards to choose from."""
        servers = (r for r in objects.values() if isinstance(r, MailServer))
        if all(server.spec.store.shards == 1 for server in servers):
            return frozenset()
        mailboxes = {ref: r for ref, r in objects.items() if isinstance(r, Mailbox)}
        return frozenset(r for r, m in mailboxes.items() if m.spec.shard is None and str(r) in self._served)

    def _note_endings(self, plan: Plan) -> None:
        """Remember whose mail is to go with its domain: once that is gone, nobody can be asked."""
        for ref, resource in self.snapshot.objects.items():
            if isinstance(resource, MailDomain):
                number = plan.statuses.get(ref, {}).get("number")
                if number in self._state.wiped:
                    self._state.wiped.remove(number)  # somebody has it again
                self._state.delete_on_removal.pop(str(ref), None)
                if number and resource.spec.deletion_policy == "Delete":
                    self._state.delete_on_removal[str(ref)] = number

    def keep(self, wanted: GeneratedSecret, values: dict[str, bytes]) -> None:
        """Keep a generated Secret beside those that were given. Snapshots of before do not have it."""
        self._state.keep_secret(f"{wanted.namespace}/{wanted.name}", values)
        self.secrets = {**self.secrets, (wanted.namespace, wanted.name): values}

    def last_good(self) -> dict[str, dict[str, Any]]:
        """All that is in force, by kind/namespace/name: its file, and its content."""
        found: dict[str, dict[str, Any]] = {}
        for ref, document in self._places.items():
            loaded = self._loaded.get(ref)
            content = loaded[0] if loaded else document.content
            found["/".join(ref)] = {"file": str(document.file), "content": content}
        return found

    def problem(self, ref: ObjectRef, field: str, message: str) -> Problem:
        """What is wrong with an object, or with one of its fields, where that stands."""
        document = self._places[ref]
        return Problem(document.file, document.line_of(field), field, message)

    def hints(self) -> Iterator[Problem]:
        """What is said in words of before."""
        for ref, document in self._places.items():
            if ref.kind in KINDS:
                yield from (self.problem(ref, *hint) for hint in hints(document.content))

    def password_hint(self, ref: ObjectRef) -> str:
        """Which Secret holds the password of a mailbox; a generated one is shown, as nobody knows it."""
        wanted = next((s for s in self._wanted if s.owner == ref and s.kind == "password"), None)
        if wanted:
            return self.secrets[wanted.namespace, wanted.name]["password"].decode()
        resource = self.snapshot.objects.get(ref)
        name = resource.password_secret() if resource else None
        return f"Secret {name}" if name else ""

    def gather(self) -> None:
        """Make the snapshot of what is there now."""
        self._unread = self.manifests.problems
        problems = list(self._unread)
        documents = self._documents(problems)
        broken = {problem.file for problem in problems}
        if not documents and self._remembered and not self.snapshot.objects:
            message = (
                "no manifest is left: what was in force before stays; put one back, or confirm that all is "
                "to go by removing good.json from the data folder"
            )
            problems.append(Problem(self.manifests.paths[0], 1, "", message))
            broken |= {document.file for document in self._remembered.values()}
        for ref, document in self._remembered.items():
            if document.file in broken or not broken.isdisjoint(document.file.parents):
                documents.setdefault(ref, document)
        self._places = documents
        resources = {ref: d for ref, d in documents.items() if ref.kind in KINDS}
        if not resources and self.snapshot.objects:
            where = ", ".join(str(path) for path in self.manifests.paths)
            problems.append(
                Problem(
                    self.manifests.paths[0],
                    1,
                    "",
                    f"no manifest is left in {where}: nothing was changed; put one back, or stop this "
                    "installation to end its service",
                )
            )
            self.problems = problems
            return
        self.secrets = dict(self._generated())
        for ref, document in documents.items():
            if ref.kind == "Secret":
                try:
                    self.secrets[ref.namespace, ref.name] = content({"kind": "Secret", **document.content})
                except (binascii.Error, ValueError) as error:
                    message = f"is no base64 ({error}): write it as stringData, or encode it"
                    problems.append(Problem(document.file, document.line_of("data"), "data", message))
                except (AttributeError, TypeError):
                    field = "stringData" if "stringData" in document.content else "data"
                    message = "holds something else than texts: write quotes around each value"
                    problems.append(Problem(document.file, document.line_of(field), field, message))
        objects = {ref: r for ref, d in resources.items() if (r := self._load(ref, d, problems))}
        self._loaded = {ref: self._loaded[ref] for ref in objects if ref in self._loaded}
        # What was read well since then is not needed from before.
        self._remembered = {r: d for r, d in self._remembered.items() if documents.get(r) is d}
        if self._one_server:
            problems += self._leave_out_servers(objects)
        for known in self._state.ages.keys() - {str(ref) for ref in resources}:
            del self._state.ages[known]
            # Its mail is parked in its shard, where it comes back to.
            kept = {k: v for k, v in self._state.allocations.pop(known, {}).items() if k == "shard"}
            if kept:
                self._state.allocations[known] = kept
        self._end_domains({str(ref) for ref in resources})
        wiped = frozenset(self._state.wiped)
        self._answered.clear()
        snapshot = Snapshot(
            objects=objects,
            answers=self._dns.look(self._questions) if self._dns else {},
            served=self._served_before(objects),
            wiped={ref: wiped for ref in objects if ref.kind == "MailServer"} if wiped else {},
            passwords=dict(self._passwords(objects)),
            secrets=self.secrets,
            namespaces={
                ref.name: _texts(d.content["metadata"].get("labels"))
                for ref, d in documents.items()
                if ref.kind == "Namespace"
            },
            age={ref: self._state.age(str(ref)) for ref in objects},
        )
        if snapshot != self.snapshot:
            self.snapshot = snapshot
        self.problems = problems

    def _leave_out_servers(self, objects: dict[ObjectRef, Resource]) -> Iterator[Problem]:
        servers = [ref for ref in objects if ref.kind == "MailServer"]
        servers.sort(key=lambda ref: self._state.age(str(ref)))
        for ref in servers[1:]:
            del objects[ref]
            document = self._places[ref]
            yield Problem(
                document.file,
                document.line_of("kind"),
                "kind",
                f"one machine runs one MailServer, and {servers[0]} is older than {ref}: remove one of them, "
                "or run this one by a `mailpods up` with --data and --port-offset of its own",
            )

    def _documents(self, problems: list[Problem]) -> dict[ObjectRef, Document]:
        documents: dict[ObjectRef, Document] = {}
        for document in self.manifests.documents:
            meta = document.content["metadata"]
            kind, name = str(document.content.get("kind", "")), str(meta.get("name", ""))
            namespace = "" if kind == "Namespace" else str(meta.get("namespace", "default"))
            ref = ObjectRef(kind, namespace, name)
            if first := documents.get(ref):
                message = f"{ref} stands already in {first.file}:{first.line}: remove one of them"
                problems.append(Problem(document.file, document.line, "metadata.name", message))
            elif kind not in KINDS and kind not in ("Secret", "Namespace"):
                message = (
                    f"{kind or 'nothing'} is no kind that is known here: write one of {', '.join(KINDS)}"
                )
                problems.append(Problem(document.file, document.line_of("kind"), "kind", message))
            else:
                documents[ref] = document
        return documents

    def _load(self, ref: ObjectRef, document: Document, problems: list[Problem]) -> Resource | None:
        known, before = self._loaded.get(ref), self._remembered.get(ref)
        source, patch = document.content, self._state.allocations.get(str(ref), {})
        if known and known[0] is source and known[1] == patch:
            return known[2]
        try:
            spec = source.get("spec")
            if isinstance(spec, dict):
                spec = {**patch, **{key: value for key, value in spec.items() if value is not None}}
            meta = {**source["metadata"], "namespace": ref.namespace}
            # What was in force in a later version is read as a cluster would read it.
            resource = load({**source, "metadata": meta, "spec": spec}, lenient=document is before)
            if known is None and before and before is not document and self._load(ref, before, []):
                known = self._loaded[ref]
            if known and (refused := refused_changes(known[2], resource)):
                raise Invalid(refused)
        except Invalid as error:
            problems += [Problem(document.file, document.line_of(f), f, m) for f, m in error.problems]
            if known:
                return known[2]  # its last valid version stays in force
            return self._load(ref, before, []) if before and before is not document else None
        self._loaded[ref] = (source, dict(patch), resource)
        return resource

    def _generated(self) -> Iterator[tuple[SecretName, dict[str, bytes]]]:
        for name in self._state.secrets:
            namespace, _, secret = name.partition("/")
            if values := self._state.secret(name):
                yield (namespace, secret), values

    def _passwords(
        self, objects: Mapping[ObjectRef, Resource]
    ) -> Iterator[tuple[SecretName, PasswordHash | SecretProblem]]:
        until = time.monotonic() + _HASHING_SECONDS
        self._hashing = False
        names = {(ref.namespace, name) for ref, r in objects.items() if (name := r.password_secret())}
        names |= {(s.namespace, s.name) for s in self._wanted if s.kind == "password"}
        for namespace, name in sorted(names):
            values = self.secrets.get((namespace, name))
            if values is None:
                continue  # compile() says that it is missing
            yield (namespace, name), self._hash(f"{namespace}/{name}", values, until)

    def _hash(self, name: str, values: Mapping[str, bytes], until: float) -> PasswordHash | SecretProblem:
        password = password_in(name, values)
        if isinstance(password, SecretProblem):
            return password.keeping(self._hashes.last(name))
        if isinstance(password, PasswordHash):
            self._hashes.given(name, password.hash)
            return password
        if known := self._hashes.get(name, password):
            return PasswordHash(known)
        if time.monotonic() > until:
            self._hashing = True
            return _HASHING.keeping(self._hashes.last(name))
        return PasswordHash(self._hashes.add(name, password))


def _texts(labels: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else {}


def secret_manifest(name: SecretName, values: Mapping[str, bytes]) -> dict[str, Any]:
    """A Secret as Kubernetes writes it."""
    data = {key: base64.b64encode(value).decode() for key, value in values.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": name[0], "name": name[1]},
        "data": data,
    }
