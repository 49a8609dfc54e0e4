"""Asks smtp pods through the API server's pod proxy, by the user's own kubectl, which knows how to log in."""

import json
import re
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mail_operator.components import COMPONENTS, SMTP
from mail_operator.local.questions import CommandError

_QUEUED = sorted(each.name for each in COMPONENTS if any(port.name == "queue" for port in each.ports))
_SELECTOR = f"app.kubernetes.io/name=mailpods,app.kubernetes.io/component in ({','.join(_QUEUED)})"
_PORT = SMTP.port("queue").number  # by number: of pods the API server knows no port names
_SECONDS = 20  # for one request
_VERBS = {"GET": ("get",), "POST": ("create", "-f", "-"), "DELETE": ("delete",)}
_FORBIDDEN = re.compile(r'cannot (\S+) resource "([^"]+)"(?:.* in the namespace "([^"]+)")?')


@dataclass(frozen=True, slots=True)
class Pod:
    """An smtp pod, and the MailServer that it belongs to."""

    namespace: str
    name: str
    server: str
    phase: str
    component: str = "smtp"


class Cluster:
    """What kubectl reaches. `failures` are sentences about pods that did not answer."""

    def __init__(self, flags: Sequence[str], scope: Sequence[str]) -> None:
        """`flags` choose the cluster, `scope` the namespaces, both in kubectl's words."""
        self._flags, self._scope = flags, scope
        self.failures: list[str] = []

    def pods(self) -> list[Pod]:
        """The smtp pods, by name. Raises CommandError where there are none or they may not be listed."""
        text = self._kubectl("get", "pods", *self._scope, "--selector", _SELECTOR, "--output", "json")
        found = [_pod(item) for item in json.loads(text)["items"]]
        if not found:
            where = " ".join(self._scope) or "the namespace of this context"
            raise CommandError(
                f"no smtp pods in {where}: name the namespace of a MailServer with -n, or all with -A"
            )
        return sorted(found, key=lambda pod: (pod.namespace, pod.name))

    def ask(
        self, path: str, method: str, query: Mapping[str, str], component: str = ""
    ) -> Iterator[tuple[str, Any]]:
        """Ask all smtp pods, or those of one component, each for itself. Yields (pod, answer)."""
        asked = [pod for pod in self.pods() if component in pod.component]
        if not asked:
            raise CommandError(f"no {component} pods there, so nobody was asked: no MailServer has that pool")
        for pod in asked:
            if (answer := self.ask_pod(pod, path, method, query)) is not None:
                yield pod.name, answer

    def ask_pod(self, pod: Pod, path: str, method: str, query: Mapping[str, str]) -> Any:
        """Ask one; None if it failed, which `failures` then tells."""
        if pod.phase != "Running":
            self.failures.append(f"{pod.name} was not asked: it is {pod.phase}")
            return None
        url = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}:{_PORT}/proxy{path}"
        url += f"?{urllib.parse.urlencode(query)}" if query else ""
        verb, *rest = _VERBS[method]
        try:
            return json.loads(self._kubectl(verb, "--raw", url, *rest))
        except CommandError as error:
            self.failures.append(f"{pod.name}: {error}")
        except ValueError:
            self.failures.append(f"{pod.name}: its answer is no JSON; is it of another version of Mailpods?")
        return None

    def _kubectl(self, *arguments: str) -> str:
        command = ["kubectl", *self._flags, *arguments]
        try:
            # Not by --request-timeout, which kubectl adds to the query that the pod sees.
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS
            )
        except FileNotFoundError:
            raise CommandError("kubectl is not on the PATH: install it") from None
        except subprocess.TimeoutExpired:
            raise CommandError(f"no answer within {_SECONDS} seconds") from None
        if done.returncode:
            raise CommandError(_sentence(done.stderr))
        return done.stdout


def _pod(item: Mapping[str, Any]) -> Pod:
    meta = item["metadata"]
    server = meta["labels"].get("app.kubernetes.io/instance", "")
    component = meta["labels"].get("app.kubernetes.io/component", "smtp")
    return Pod(
        meta["namespace"], meta["name"], server, item.get("status", {}).get("phase", "Unknown"), component
    )


def _sentence(stderr: str) -> str:
    """What went wrong, from what kubectl says: its last line, and which right is missing."""
    last = (stderr.strip().splitlines() or ["kubectl failed without a word"])[-1]
    if "(Forbidden)" in stderr and (found := _FORBIDDEN.search(stderr)):
        where = f"namespace {found[3]}" if found[3] else "all namespaces"
        return (
            f"you may not {found[1]} {found[2]} in {where}: "
            "have the ClusterRole mail-queue bound to you by a RoleBinding there"
        )
    return last
