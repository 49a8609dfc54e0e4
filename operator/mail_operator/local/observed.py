"""Gathers the Snapshot of one machine: manifests, Secrets among them, and what the data folder remembers."""

import binascii
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mail_operator.compiler.snapshot import PasswordHash, SecretName, SecretProblem, Snapshot
from mail_operator.engine.secrets import hash_password, password_in
from mail_operator.kinds import KINDS, Invalid, Resource, hints, load, refused_changes
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.meta import ObjectRef
from mail_operator.local.manifests import Document, Manifests, Problem
from mail_operator.local.state import State
from mail_operator.local.volumes import content

_HASHING_SECONDS = 0.1
_HASHING = SecretProblem("Hashing", "The password is being hashed; this takes a moment.")
_ENDED_SECONDS = 10.0  # until a domain that is gone takes its mail along


class ObservedState:
    """What is known now. `refresh()` looks again; `snapshot` and `problems` tell."""

    def __init__(
        self,
        manifests: Manifests,
        state: State,
        one_server: bool = False,
        last_good: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """`one_server`: of several MailServers only the oldest counts, for their ports are the same.

        `last_good`: what `last_good()` said in a former run; it stands in for what is broken at the start.
        """
        self._remembered = {
            ObjectRef(*name.split("/", 2)): Document(Path(each["file"]), 1, "", each["content"])
            for name, each in (last_good or {}).items()
        }
        self.manifests = manifests
        self._one_server = one_server
        self._state = state
        self._loaded: dict[ObjectRef, tuple[Mapping[str, Any], dict[str, Any], Resource]] = {}
        self._ended: dict[str, float] = {}  # held domains that are gone, since when
        self.ended: set[ObjectRef] = set()  # those that are gone for good
        self._places: dict[ObjectRef, Document] = {}
        self._unread: list[Problem] = []  # what the manifests could not read or parse when last gathered
        self.snapshot = Snapshot()
        self.problems: list[Problem] = []
        self.secrets: dict[SecretName, dict[str, bytes]] = {}  # given and generated

    def refresh(self) -> bool:
        """Look at the files. Returns whether the snapshot or the problems changed."""
        changed = self.manifests.refresh()
        changed |= self.manifests.problems != self._unread
        changed |= bool(self._remembered) and not self.snapshot.objects
        ripe = {ref for ref, since in self._ended.items() if time.monotonic() - since >= _ENDED_SECONDS}
        changed |= bool(ripe - {str(ref) for ref in self.ended})
        if changed:
            self.gather()
        return changed

    def _end_domains(self, there: set[str]) -> set[ObjectRef]:
        """Held domains that are gone for good: a manifest that is only being replaced comes back soon."""
        now, ended = time.monotonic(), self._state.held.keys() - there
        self._ended = {ref: self._ended.get(ref, now) for ref in ended}
        return {parsed(ref) for ref, since in self._ended.items() if now - since >= _ENDED_SECONDS}

    def is_given(self, name: SecretName) -> bool:
        """Whether a manifest holds this Secret."""
        return ObjectRef("Secret", *name) in self._places

    def source(self, ref: ObjectRef) -> Mapping[str, Any]:
        """The manifest in force of a custom resource."""
        return self._loaded[ref][0]

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
        resource = self.snapshot.objects.get(ref)
        if resource and (name := resource.password_secret()):
            return f"Secret {name}"
        if isinstance(resource, Mailbox) and not resource.spec.password_hash:
            made = self.secrets.get((ref.namespace, f"{ref.name}-password"), {})
            return made.get("password", b"").decode(errors="replace")
        return ""

    def hash_passwords(self) -> None:
        """Add the passwords to the snapshot, for who runs no engine: those that a moment is enough for."""
        until = time.monotonic() + _HASHING_SECONDS
        found: dict[SecretName, PasswordHash | SecretProblem] = {}
        for ref, resource in self.snapshot.objects.items():
            name = (ref.namespace, resource.password_secret() or "")
            if (values := self.secrets.get(name)) is None:
                continue  # compile() says that it is missing
            password = password_in("/".join(name), values)
            if isinstance(password, str):
                password = PasswordHash(hash_password(password)) if time.monotonic() < until else _HASHING
            found[name] = password
        self.snapshot = replace(self.snapshot, passwords=found)

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
        for known in self._state.ages.keys() - self._state.held.keys() - {str(ref) for ref in resources}:
            del self._state.ages[known]
            # Its mail is parked in its shard, where it comes back to.
            kept = {k: v for k, v in self._state.allocations.pop(known, {}).items() if k == "shard"}
            if kept:
                self._state.allocations[known] = kept
        self.ended = self._end_domains({str(ref) for ref in resources})
        snapshot = Snapshot(
            objects=objects,
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


def _texts(labels: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else {}


def parsed(ref: str) -> ObjectRef:
    """A reference as the state writes it: `Kind namespace/name`."""
    kind, _, name = ref.partition(" ")
    return ObjectRef(kind, *name.split("/", 1))
