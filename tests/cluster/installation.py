"""The cluster as a ground for stories: manifests go to its API server, users to its Services."""

import base64
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from mail_operator.components import COMPONENTS
from mail_operator.components.component import Component, Port

from tests.cluster.testcluster.places import OUTSIDE
from tests.support.installation import Installation, manifest

NAMESPACE = "t"
OPERATOR = "mailpods-system"  # its namespace
PLUGIN = Path(sys.executable).parent / "kubectl-mailpods"


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


class ClusterInstallation(Installation):
    """The MailServer `main` of a namespace."""

    net = OUTSIDE.rpartition(".")[0]

    def __init__(self, namespace: str = NAMESPACE) -> None:
        self.namespace = namespace
        self._applied: dict[str, dict[tuple[str, str], Any]] = {}

    def start(self) -> None:
        """It is, as soon as its manifests are applied."""
        self.wait_for("MailServer", "main", seconds=120)

    def govern(self, policy: dict[str, Any]) -> None:
        """A policy is Ready when all pods have taken it up."""
        self.apply("policy", manifest("RelayPolicy", "main", policy))
        if fetched("MailServer", "main", self.namespace):
            self.wait_for("RelayPolicy", "main")

    def apply(self, name: str, *documents: Any) -> None:
        """What stood under this name before and is not among these is deleted."""
        flat = [d for each in documents for d in (each if isinstance(each, list) else [each])]
        flat = [{**d, "metadata": {**d["metadata"], "namespace": self.namespace}} for d in flat]
        wanted = {(d["kind"], d["metadata"]["name"]): d for d in flat}
        self._delete(self._applied.get(name, {}).keys() - wanted.keys())
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(flat))
        self._applied[name] = wanted

    def remove(self, name: str) -> None:
        """Delete what was applied under this name."""
        self._delete(self._applied.pop(name))

    def _delete(self, objects: Iterable[tuple[str, str]]) -> None:
        for kind, name in objects:
            kubectl("delete", kind, name, "-n", self.namespace, "--ignore-not-found")

    def status(self, kind: str, name: str) -> dict[str, Any]:
        """Of its newest generation; {} as long as that has none."""
        found = fetched(kind, name, self.namespace)
        status: dict[str, Any] = found.get("status", {})
        return (
            status if status.get("observedGeneration") == found.get("metadata", {}).get("generation") else {}
        )

    def wait_for(self, kind: str, name: str, status: str = "True", seconds: float = 30) -> dict[str, str]:
        """As `kubectl wait` does."""
        end = time.monotonic() + seconds
        while (ready := self.conditions(kind, name).get("Ready", {})).get("status") != status:
            if time.monotonic() > end:
                pods = kubectl("get", "pods", "--all-namespaces", "-o", "wide")
                operator = kubectl("logs", "deployment/mailpods-operator", "-n", OPERATOR, "--tail=20")
                found = fetched(kind, name, self.namespace)
                raise AssertionError(f"{kind} {name}: {found.get('status')}\n{pods}\n{operator}")
            time.sleep(0.05)
        return ready

    def address(self, service: str) -> tuple[str, int]:
        """The Service's own."""
        component, port = _public(service)
        found = fetched("Service", f"main-{component.name}", self.namespace)
        return str(found["spec"]["clusterIP"]), port.public or 0

    def pod(self, name: str, port: int) -> tuple[str, int]:
        """The pod's own address."""
        return str(fetched("Pod", name, self.namespace)["status"]["podIP"]), port

    def tool(self, *words: str, fails: bool = False) -> str:
        """By the plugin of kubectl."""
        done = subprocess.run([PLUGIN, *words, "-n", self.namespace], capture_output=True, text=True)
        assert bool(done.returncode) == fails, done.stderr
        return done.stderr if fails else done.stdout

    def run(self, pod: str, container: str, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in a pod."""
        inside = ["kubectl", "exec", pod, "-c", container, "-n", self.namespace, "--", *command]
        return subprocess.run(inside, capture_output=True, text=True)

    def log(self, container: str) -> str:
        """Since it was started last."""
        pod, _, name = container.rpartition("-")
        return kubectl("logs", pod, "-c", name, "-n", self.namespace)

    def tls(self) -> ssl.SSLContext:
        """The authority stands beside the certificate."""
        authority = base64.b64decode(fetched("Secret", "main-tls", self.namespace)["data"]["ca.crt"]).decode()
        context = ssl.create_default_context(cadata=authority)
        context.check_hostname = False  # the certificate names mail.a.test, not the Service's address
        return context


class LonelyInstallation(ClusterInstallation):
    """One of a namespace of its own, for the stories of one module."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        make_namespace(namespace)

    def address(self, service: str) -> tuple[str, int]:
        """That of its one pod: behind a Service's address clients of the node lose their own."""
        component, port = _public(service)
        if component.workload == "StatefulSet":
            return self.pod(f"main-{component.name}-0", port.number)
        labels = f"app.kubernetes.io/component={component.name}"
        found = json.loads(kubectl("get", "pods", "-n", self.namespace, "-l", labels, "-o", "json"))["items"]
        there = [pod["status"]["podIP"] for pod in found if "podIP" in pod["status"]]
        if not there:
            raise ConnectionError(f"no pod of {component.name} has an address yet")
        return there[0], port.number

    def stop(self) -> None:
        """Delete everything."""
        kubectl("delete", "namespace", self.namespace, "--wait=true", "--timeout=90s")


def make_namespace(name: str) -> None:
    """One in which pods may do what the strictest standard allows."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    kubectl("apply", "-f", "-", stdin=json.dumps(namespace))


def _public(service: str) -> tuple[Component, Port]:
    return next(
        (component, port)
        for component in COMPONENTS
        for port in component.ports
        if port.public and port.name == service
    )
