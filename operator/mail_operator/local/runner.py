"""The rounds of one machine: manifests -> Plan -> processes, and what they acknowledged -> statuses."""

import datetime
import json
import os
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mail_operator.compiler import compile
from mail_operator.compiler.plan import GeneratedSecret, Plan, wire
from mail_operator.compiler.status import withheld
from mail_operator.engine import memory
from mail_operator.engine.faults import FaultLog
from mail_operator.engine.secrets import KeyPair, make_ca, make_certificate, needs_renewal
from mail_operator.kinds.meta import ObjectRef
from mail_operator.local.files import write_atomically
from mail_operator.local.manifests import Manifests
from mail_operator.local.observed import ObservedState, secret_manifest
from mail_operator.local.pods import WORKLOADS, Container, Pods
from mail_operator.local.ports import Ports
from mail_operator.local.state import DataFolder, DataFolderError
from mailpods.directory.shards import content_hash

_LONGEST_SOCKET = "/state/run/token-login/imap-urlauth"
_LOOK_SECONDS = 0.1  # between looks at the manifests
_GOOD_SECONDS = 3.0  # after a change; ten thousand manifests take a tenth of a second to write
_RENEWAL_SECONDS = 3600.0  # between looks at the certificates
_CA = GeneratedSecret("tls", "", "mailpods-ca", ObjectRef("Secret", "", "mailpods-ca"))


class Runner:
    """Call `step()` a few times a second; it blocks for no longer than one compile."""

    def __init__(
        self, paths: list[Path], data: DataFolder, ports: Ports, bind: str, user: str | None
    ) -> None:
        self._data = data
        self._ports = ports
        self.observed = ObservedState(
            Manifests(paths),
            data.state,
            one_server=True,
            last_good=data.last_good(),
            asks_dns=True,
        )
        self._good_at: float | None = None  # when to write down what is in force
        self.pods = Pods(data.path, ports, bind, user)
        self.plan = Plan()
        self._faults = FaultLog(partial(print, file=sys.stderr, flush=True))
        self._hashes: dict[str, dict[str, str]] = {}  # volume -> file -> hash, of the plan
        self._acknowledged: dict[str, Mapping[str, str]] = defaultdict(dict)  # container -> file -> hash
        self._seen: set[str] = set()
        self._stale = False  # the plan changed since statuses were made of it
        self._next_look = 0.0
        self._next_renewal = 0.0
        self.statuses: Mapping[ObjectRef, Mapping[str, Any]] = {}

    def step(self) -> bool:
        """Look, compile, apply, tick. Returns whether anything that a person would see changed."""
        now = time.monotonic()
        changed = False
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            changed = self.observed.refresh()
            if changed and self._good_at is None:
                self._good_at = now + _GOOD_SECONDS
            if self._good_at is not None and now >= self._good_at:
                self._keep_good()
            if changed or now >= self._next_renewal:
                self._next_renewal = now + _RENEWAL_SECONDS
                self._apply()
        self.pods.tick()
        return self._acknowledge() or changed

    def _keep_good(self) -> None:
        self._data.keep_last_good(self.observed.last_good())
        self._good_at = None
        memory.trim_memory()

    def stop(self) -> None:
        """Drain and end the pods; returns when all have ended."""
        if self._good_at is not None:
            self._keep_good()
        self.pods.stop()
        while self.pods.running:
            self.pods.tick()
            time.sleep(0.05)
        (self._data.path / "run" / "status.json").unlink(missing_ok=True)

    def _apply(self) -> None:
        plan = compile(self.observed.snapshot, self.plan)
        while self.observed.remember(plan):
            plan = compile(self.observed.snapshot, plan)
        self._require_short_paths(plan)
        certificates_changed = self._certificates((*plan.secrets, *_asked_of_cert_manager(plan)))
        if certificates_changed:
            self.observed.gather()
            plan = compile(self.observed.snapshot, plan)
        if plan.objects is not self.plan.objects or certificates_changed or plan != self.plan:
            # Of the same name may be a tenant's Secret: the pods see those of their own namespace alone.
            here = {ref.namespace for ref in plan.directory}
            given = self.observed.secrets.items()
            secrets = [secret_manifest(name, values) for name, values in given if name[0] in here]
            self.pods.apply([*map(wire, plan.objects), *secrets])
        self._faults.tell(plan)
        self._stale = plan != self.plan
        self.plan = plan
        self._hashes = {
            volume: {name: content_hash(data) for files in mounted.values() for name, data in files.items()}
            for volume, mounted in (("directory", plan.directory), ("credentials", plan.credentials))
        }
        # What was loaded of a file that changes now is no answer any more, not even when the file becomes
        # again what it was: a program may have seen what was between.
        for container in self._containers():
            expected, loaded = self._expected(container), self._acknowledged[container.key]
            self._acknowledged[container.key] = {f: d for f, d in loaded.items() if expected.get(f) == d}
        self._data.save()

    def _require_short_paths(self, plan: Plan) -> None:
        """Dovecot's sockets lie in its pod's folder; the kernel takes 107 bytes for a path (unix(7))."""
        names = (f"{o['metadata']['name']}-0" for o in plan.objects if o["kind"] in WORKLOADS)
        for name in names:
            over = len(os.fsencode(self._data.path / "run" / "pods" / name)) + len(_LONGEST_SOCKET) - 107
            if over > 0:
                raise DataFolderError(
                    f"{self._data.path}: too long by {over} bytes for the sockets that lie below it: "
                    "choose a shorter folder with --data"
                )

    def _certificates(self, wanted: Iterable[GeneratedSecret]) -> bool:
        now = datetime.datetime.now(datetime.UTC)
        changed = False
        for secret in wanted:
            if secret.kind != "tls":
                continue
            held = self.observed.secrets.get((secret.namespace, secret.name))
            if held and not needs_renewal(held["tls.crt"], secret.hosts, now):
                continue
            authority = self.observed.secrets.get((_CA.namespace, _CA.name))
            if authority is None:
                pair = make_ca("Mailpods", now)
                authority = {"tls.crt": pair.certificate, "tls.key": pair.key}
                self.observed.keep(_CA, authority)
            leaf = make_certificate(KeyPair(authority["tls.crt"], authority["tls.key"]), secret.hosts, now)
            files = {"tls.crt": leaf.certificate, "tls.key": leaf.key, "ca.crt": authority["tls.crt"]}
            self.observed.keep(secret, files)
            changed = True
        return changed

    def _acknowledge(self) -> bool:
        """Ask the pods what they have loaded while that matters. Returns whether a status changed."""
        containers = self._containers()
        keys = {container.key for container in containers}
        waiting = [c for c in containers if not self._is_current(c)]
        if not waiting and keys == self._seen and not self._stale:
            return False
        loaded = {container.key: _loaded(container) for container in waiting}
        if keys == self._seen and not self._stale and loaded.items() <= self._acknowledged.items():
            return False
        self._seen, self._stale = keys, False
        self._acknowledged.update(loaded)
        statuses = self._statuses(containers)
        if statuses == self.statuses:
            return False
        self.statuses = statuses
        self._write_statuses()
        return True

    def _containers(self) -> list[Container]:
        return [c for pod in self.pods.running for c in pod.containers if c.admin and not pod.leaving]

    def _is_current(self, container: Container) -> bool:
        return self._expected(container).items() <= self._acknowledged[container.key].items()

    def _expected(self, container: Container) -> Mapping[str, str]:
        """The files that the container should have loaded, with their hashes."""
        return next((files for volume, files in self._hashes.items() if volume in container.mounts), {})

    def _statuses(self, containers: list[Container]) -> dict[ObjectRef, Mapping[str, Any]]:
        """The compiled statuses, Ready held back until every pod that serves the object has its files."""
        missing: set[str] = set()
        for container in containers:
            loaded, expected = self._acknowledged[container.key], self._expected(container)
            missing |= {file for file, digest in expected.items() if loaded.get(file) != digest}
        return {
            ref: withheld(status)
            if (dependencies := self.plan.dependencies.get(ref))
            and not (containers and missing.isdisjoint(dependencies.files))
            else status
            for ref, status in self.plan.statuses.items()
        }

    def _write_statuses(self) -> None:
        rows = [
            {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name, "status": status}
            for ref, status in sorted(self.statuses.items(), key=lambda item: str(item[0]))
        ]
        containers = self._containers()
        status = {
            # Container ("pod/container") -> URL of such a port.
            "admin": {c.process.name: c.admin for c in containers},
            "queue": {c.process.name: c.queue for c in containers if c.queue},
            "ports": self._ports.offered(),
            "objects": rows,
        }
        write_atomically(self._data.path / "run" / "status.json", json.dumps(status).encode())


def _loaded(container: Container) -> Mapping[str, str]:
    try:
        with urllib.request.urlopen(f"{container.admin}/directory", timeout=1) as answer:
            hashes: Mapping[str, str] = json.load(answer)["hashes"]
            return hashes
    except (OSError, ValueError):
        return {}  # not up yet


def _asked_of_cert_manager(plan: Plan) -> Iterator[GeneratedSecret]:
    """What it would write on a cluster: here the own authority stands in for every issuer."""
    for asked in plan.objects:
        if asked["kind"] == "Certificate":
            meta, spec = asked["metadata"], asked["spec"]
            owner = ObjectRef("MailServer", meta["namespace"], meta["name"])
            hosts = tuple(spec["dnsNames"])
            yield GeneratedSecret("tls", meta["namespace"], spec["secretName"], owner, hosts)
