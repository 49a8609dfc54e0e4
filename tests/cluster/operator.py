"""The operator as its users have it: a Helm release, whose pod tests end at will."""

import json
import os
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from tests.cluster.installation import OPERATOR, fetched, kubectl
from tests.support import helm
from tests.support.installation import wait

NAMESPACE = OPERATOR
RELEASE = "mailpods"
_DEPLOYMENT = "deployment/mailpods-operator"
_SELECTOR = "app.kubernetes.io/name=mailpods-operator"


def run_helm(*arguments: str) -> str:
    """What Helm prints. Raises CalledProcessError, whose note is what it said."""
    program = helm.find()
    assert program, "no helm: run these tests by ./run test-cluster"
    done = subprocess.run([program, *arguments, "--namespace", NAMESPACE], capture_output=True, text=True)
    if done.returncode:
        error = subprocess.CalledProcessError(done.returncode, done.args)
        error.add_note(done.stderr)
        raise error
    return done.stdout


class Operator:
    """One release. Its pod has the rights of the chart's ServiceAccount and no others."""

    def install(self, *settings: str) -> None:
        """Install or upgrade, and wait until it has listed everything."""
        values = [argument for setting in settings for argument in ("--set", setting)]
        run_helm("upgrade", "--install", RELEASE, str(helm.CHART), *values, "--wait", "--timeout", "90s")

    def roll_back(self) -> None:
        """To the revision before."""
        run_helm("rollback", RELEASE, "--wait", "--timeout", "90s")

    def uninstall(self) -> None:
        """What the chart keeps stays: the kinds, and with them every object."""
        run_helm("uninstall", RELEASE, "--ignore-not-found", "--wait", "--timeout", "60s")

    def pod(self) -> dict[str, Any] | None:
        """The one that is ready."""
        found = json.loads(kubectl("get", "pods", "-n", NAMESPACE, "-l", _SELECTOR, "-o", "json"))["items"]
        for pod in found:
            conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", ())}
            if conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
                return dict(pod)
        return None

    def start(self) -> None:
        """Let it run, and wait until it has listed everything."""
        kubectl("scale", _DEPLOYMENT, "-n", NAMESPACE, "--replicas=1")
        wait(self.pod, 60, "the operator is not ready")

    def stop(self) -> None:
        """Let it end."""
        kubectl("scale", _DEPLOYMENT, "-n", NAMESPACE, "--replicas=0")
        kubectl("wait", "pods", "-n", NAMESPACE, "-l", _SELECTOR, "--for=delete", "--timeout=60s")

    def kill(self) -> None:
        """End it at once, wherever it is; the kubelet starts it again."""
        pod = self.pod()
        assert pod is not None
        before = pod["status"]["containerStatuses"][0]["restartCount"]
        os.kill(process_of(pod["metadata"]["uid"]), signal.SIGKILL)

        def restarted() -> bool:
            now = fetched("Pod", pod["metadata"]["name"], NAMESPACE)
            return bool(now["status"]["containerStatuses"][0]["restartCount"] > before and self.pod())

        wait(restarted, 60, "the operator did not come back")

    def metrics(self) -> list[str]:
        """The lines of its page."""
        pod = self.pod()
        assert pod is not None
        url = f"http://{pod['status']['podIP']}:8080/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            page: str = answer.read().decode()
        return page.splitlines()

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        return float(next(line.split()[1] for line in self.metrics() if line.startswith(f"{name} ")))

    def log(self) -> str:
        """What it said since it was started last."""
        return kubectl("logs", _DEPLOYMENT, "-n", NAMESPACE)


def process_of(uid: str) -> int:
    """The operator's process of a pod. On a node of processes it is one of the host's."""
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                of, line = (Path(entry, name).read_text() for name in ("cgroup", "cmdline"))
                if uid in of and "mail_operator.cluster" in line:
                    return int(entry.name)
            except OSError:
                continue  # it ended meanwhile
    raise LookupError(f"pod {uid} has no process here: is the node another machine?")
