"""The cluster as a ground for stories: manifests go to its API server, users to its Services."""

import base64
import json
import ssl
import subprocess
import time
from typing import Any

import yaml

from tests.support.installation import House

NAMESPACE = "t"
_SERVICES = {
    "smtp": ("main-smtp", 25),
    "submission": ("main-smtp", 587),
    "submissions": ("main-smtp", 465),
    "imap": ("main-store", 143),
    "imaps": ("main-store", 993),
    "pop3": ("main-store", 110),
    "pop3s": ("main-store", 995),
    "sieve": ("main-store", 4190),
}


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """What kubectl prints. Raises CalledProcessError, whose note is what it said."""
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True)
    if done.returncode:
        error = subprocess.CalledProcessError(done.returncode, done.args)
        error.add_note(done.stderr)
        raise error
    return done.stdout


def fetched(kind: str, name: str, namespace: str = NAMESPACE) -> dict[str, Any]:
    """An object as the API server has it; {} if there is none."""
    text = kubectl("get", kind, name, "-n", namespace, "--ignore-not-found", "-o", "json")
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


class ClusterHouse(House):
    """The MailServer `main` of namespace t."""

    def __init__(self) -> None:
        self._applied: dict[str, dict[tuple[str, str], Any]] = {}

    def apply(self, name: str, *documents: Any) -> None:
        """What stood under this name before and is not among these is deleted."""
        flat = [d for each in documents for d in (each if isinstance(each, list) else [each])]
        wanted = {(d["kind"], d["metadata"]["name"]): d for d in flat}
        for kind, gone in self._applied.get(name, {}).keys() - wanted.keys():
            kubectl("delete", kind, gone, "-n", NAMESPACE, "--ignore-not-found")
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(flat))
        self._applied[name] = wanted

    def remove(self, name: str) -> None:
        """Delete what was applied under this name."""
        for kind, gone in self._applied.pop(name):
            kubectl("delete", kind, gone, "-n", NAMESPACE, "--ignore-not-found")

    def status(self, kind: str, name: str) -> dict[str, Any]:
        """Of its newest generation; {} as long as that has none."""
        found = fetched(kind, name)
        status: dict[str, Any] = found.get("status", {})
        return (
            status if status.get("observedGeneration") == found.get("metadata", {}).get("generation") else {}
        )

    def wait_for(self, kind: str, name: str, status: str = "True", seconds: float = 30) -> dict[str, str]:
        """As `kubectl wait` does."""
        end = time.monotonic() + seconds
        while (ready := self.conditions(kind, name).get("Ready", {})).get("status") != status:
            assert time.monotonic() < end, f"{kind} {name}: {fetched(kind, name).get('status')}"
            time.sleep(0.05)
        return ready

    def address(self, service: str) -> tuple[str, int]:
        """The Service's own."""
        name, port = _SERVICES[service]
        return str(fetched("Service", name)["spec"]["clusterIP"]), port

    def log(self, container: str) -> str:
        """Since it was started last."""
        pod, _, name = container.rpartition("-")
        return kubectl("logs", pod, "-c", name, "-n", NAMESPACE)

    def tls(self) -> ssl.SSLContext:
        """The authority stands beside the certificate."""
        authority = base64.b64decode(fetched("Secret", "main-tls")["data"]["ca.crt"]).decode()
        context = ssl.create_default_context(cadata=authority)
        context.check_hostname = False  # the certificate names mail.a.test, not the Service's address
        return context
