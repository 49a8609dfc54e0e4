"""Whether pods reach the API server, by the address that they are given for it; and if not, why."""

import json
import subprocess
import sys
import time
from collections.abc import Callable

from tests.cluster.testcluster import network
from tests.cluster.testcluster.places import API_SERVICE_IP, PAUSE_IMAGE, LocalCluster

POD = "reaches-the-api"
_SECONDS = 20
_CONNECT = f"import socket; socket.create_connection(({API_SERVICE_IP!r}, 443), timeout=2).close()"


def check(local_cluster: LocalCluster, kubectl: Callable[..., str], seconds: float = _SECONDS) -> str | None:
    """Connect to the API server from a pod made for it, for so long. Why that failed; None: it works.

    Raises:
        subprocess.CalledProcessError: the pod could not be made.
    """
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD, "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [{"name": "pause", "image": PAUSE_IMAGE, "imagePullPolicy": "Never"}],
        },
    }
    kubectl("apply", "-f", "-", input=json.dumps(manifest))
    try:
        kubectl("wait", f"pod/{POD}", "-n", "default", "--for=condition=Ready", "--timeout=60s")
        said = kubectl(
            "get", "pod", POD, "-n", "default", "-o", "jsonpath={.status.containerStatuses[0].containerID}"
        )
        process = _process(local_cluster, said.rpartition("/")[2])
        deadline = time.monotonic() + seconds
        while True:
            done = subprocess.run(
                ["nsenter", f"--net=/proc/{process}/ns/net", "--", sys.executable, "-c", _CONNECT],
                capture_output=True,
                text=True,
            )
            if not done.returncode:
                return None
            if time.monotonic() > deadline:
                return done.stderr.strip().rpartition("\n")[2]
            time.sleep(0.2)
    finally:
        kubectl("delete", "pod", POD, "-n", "default", "--ignore-not-found")


def rules(local_cluster: LocalCluster) -> str:
    """The node's rules for the address of the API server's Service; "" where there are none."""
    saved = subprocess.run(
        [*network.inside(local_cluster), "iptables-save", "--table", "nat"], capture_output=True, text=True
    )
    ours = f"-A KUBE-SERVICES -d {API_SERVICE_IP}/32 "
    return "\n".join(line for line in saved.stdout.splitlines() if line.startswith(ours))


def _process(local_cluster: LocalCluster, container: str) -> int:
    ctr = ["ctr", "--address", str(local_cluster.containerd_socket), "--namespace", "k8s.io", "tasks", "list"]
    listed = subprocess.run(ctr, capture_output=True, text=True, check=True)
    (pid,) = (line.split()[1] for line in listed.stdout.splitlines() if line.startswith(container))
    return int(pid)
