"""Starts and stops the whole cluster."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.testcluster import (
    certificates,
    cgroups,
    configuration,
    images,
    network,
    pod_network,
    processes,
)
from tests.cluster.testcluster.binaries import build
from tests.cluster.testcluster.places import (
    API_PORT,
    API_SERVICE_IP,
    ETCD_URL,
    NODE_IP,
    POD_NETWORK,
    SERVICE_NETWORK,
    VOLUMES_USER,
    LocalCluster,
)

# The clients' certificates: whom each names, and of which groups.
_IDENTITIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "admin": ("kubernetes-admin", ("system:masters",)),
    "kubelet-client": ("kube-apiserver", ("system:masters",)),
    "kube-controller-manager": ("system:kube-controller-manager", ()),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kube-proxy": ("system:kube-proxy", ()),
    "kube-router": ("kube-router", ("system:masters",)),
    "coredns": ("system:coredns", ()),
    "local-volumes": (VOLUMES_USER, ()),
}


_FIREWALL_HEALTH = 20244  # port


class NotReady(Exception):
    """A part of the cluster did not become ready in time; its log says why."""


def up(local_cluster: LocalCluster) -> None:
    """Start what does not run, and wait until the node is ready; about ten seconds once built.

    Raises:
        NotReady: a part did not become ready.
        subprocess.CalledProcessError: a command failed, and has said why on standard error.
    """
    programs = build()
    if not any(processes.running(local_cluster, name) for name in processes.started(local_cluster)):
        down(local_cluster)  # what a restart of the machine has left
    local_cluster.root.mkdir(parents=True, exist_ok=True)
    (local_cluster.root / "bin").unlink(missing_ok=True)
    (local_cluster.root / "bin").symlink_to(programs)
    network.make(local_cluster)
    cgroups.make(local_cluster)
    _identify(local_cluster)
    configuration.write(local_cluster)
    _start_runtime(local_cluster, programs)
    _start_control_plane(local_cluster, programs)
    _kubectl(local_cluster, "apply", "--server-side", "-f", f"{local_cluster.root}/etc/objects.yaml")
    _start_services(local_cluster, programs)
    ready = ("wait", "--for=condition=Ready", f"node/{local_cluster.name}", "--timeout=5s")
    _wait(local_cluster, "kubelet", lambda: _kubectl_succeeds(local_cluster, *ready))
    _wait(local_cluster, "coredns", lambda: _answers(local_cluster, f"http://{NODE_IP}:8181/ready"))
    # kube-router writes the whole filter table anew, without what others added since it read it. Where those
    # were kube-proxy's first chains, kube-proxy gives up for 30 s, each time, and no Service has a way.
    _wait(local_cluster, "kube-proxy", lambda: bool(pod_network.rules(local_cluster)))
    _start_firewall(local_cluster, programs)
    # Pods are refused before their namespace's account is there.
    _wait(
        local_cluster,
        "kube-controller-manager",
        lambda: _kubectl_succeeds(local_cluster, "get", "serviceaccount", "default"),
    )
    _see_that_pods_reach_the_api(local_cluster, programs)


def down(local_cluster: LocalCluster) -> None:
    """End every process of the cluster, its pods' included, and delete all that it wrote but the programs."""
    processes.stop(
        local_cluster, *(name for name in processes.started(local_cluster) if name != "containerd")
    )
    if processes.running(local_cluster, "containerd"):
        _end_containers(local_cluster)
    processes.stop(local_cluster, "containerd")
    for shim in processes.shims(local_cluster):
        os.kill(shim, signal.SIGKILL)
    _unmount(local_cluster.root)
    network.delete(local_cluster)
    cgroups.delete(local_cluster)
    for link in Path("/var/log/containers").glob("*.log"):  # where the kubelet puts them cannot be chosen
        if link.is_symlink() and link.readlink().is_relative_to(local_cluster.root):
            link.unlink()
    shutil.rmtree(local_cluster.root, ignore_errors=True)


def _identify(local_cluster: LocalCluster) -> None:
    """Make all certificates, keys and kubeconfigs, unless they are there."""
    pki, etc = local_cluster.root / "pki", local_cluster.root / "etc"
    if local_cluster.kubeconfig.exists():
        return
    shutil.rmtree(pki, ignore_errors=True)
    etc.mkdir(exist_ok=True)
    authority = certificates.Authority(pki)
    services = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    authority.issue(
        "kube-apiserver",
        "kube-apiserver",
        hosts=[*services, f"{services[-1]}.cluster.local", NODE_IP, API_SERVICE_IP, "127.0.0.1", "localhost"],
    )
    node = f"system:node:{local_cluster.name}"
    authority.issue("kubelet", node, ["system:nodes"], hosts=[local_cluster.name, NODE_IP])
    certificates.write_key(pki / "service-accounts.key")
    certificates.write_kubeconfig(etc / "kubelet.kubeconfig", local_cluster.api_url, pki, "kubelet")
    for name, (user, groups) in _IDENTITIES.items():
        authority.issue(name, user, groups)
        certificates.write_kubeconfig(etc / f"{name}.kubeconfig", local_cluster.api_url, pki, name)
    shutil.copy(etc / "admin.kubeconfig", local_cluster.kubeconfig)


def _start_runtime(local_cluster: LocalCluster, programs: Path) -> None:
    etc = local_cluster.root / "etc"
    processes.start(
        local_cluster,
        "etcd",
        [
            *("etcd", "--data-dir", f"{local_cluster.root}/etcd", "--unsafe-no-fsync", "--logger", "zap"),
            *("--listen-client-urls", ETCD_URL, "--advertise-client-urls", ETCD_URL),
            *("--listen-peer-urls", "http://127.0.0.1:2380", "--quota-backend-bytes", str(4 << 30)),
            *("--log-level", "warn"),
        ],
    )
    processes.start(local_cluster, "containerd", ["containerd", "--config", f"{etc}/containerd.toml"])
    ctr = ["ctr", "--address", str(local_cluster.containerd_socket), "--connect-timeout", "1s", "version"]
    _wait(local_cluster, "containerd", lambda: _succeeds(ctr))
    images.load_pause(local_cluster, programs / "pause")


def _start_control_plane(local_cluster: LocalCluster, programs: Path) -> None:
    pki, etc = local_cluster.root / "pki", local_cluster.root / "etc"
    processes.start(
        local_cluster,
        "kube-apiserver",
        [
            str(programs / "kube-apiserver"),
            *(f"--etcd-servers={ETCD_URL}", f"--advertise-address={NODE_IP}", f"--secure-port={API_PORT}"),
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            *("--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"),
            "--allow-privileged=true",
            f"--client-ca-file={pki}/ca.crt",
            *(
                f"--tls-cert-file={pki}/kube-apiserver.crt",
                f"--tls-private-key-file={pki}/kube-apiserver.key",
            ),
            f"--kubelet-certificate-authority={pki}/ca.crt",
            f"--kubelet-client-certificate={pki}/kubelet-client.crt",
            f"--kubelet-client-key={pki}/kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki}/service-accounts.key",
            f"--service-account-signing-key-file={pki}/service-accounts.key",
            *(f"--audit-policy-file={etc}/audit.yaml", f"--audit-log-path={local_cluster.audit_log}"),
            "--audit-log-maxsize=10000",  # megabytes: one file, so that counting needs to read only one
            "--shutdown-delay-duration=0s",
        ],
    )
    _wait(local_cluster, "kube-apiserver", lambda: _kubectl_succeeds(local_cluster, "get", "--raw=/readyz"))
    processes.start(
        local_cluster,
        "kube-controller-manager",
        [
            str(programs / "kube-controller-manager"),
            f"--kubeconfig={etc}/kube-controller-manager.kubeconfig",
            *("--leader-elect=false", "--use-service-account-credentials=true", "--bind-address=127.0.0.1"),
            *(f"--cluster-cidr={POD_NETWORK}", f"--service-cluster-ip-range={SERVICE_NETWORK}"),
            f"--root-ca-file={pki}/ca.crt",
            f"--service-account-private-key-file={pki}/service-accounts.key",
        ],
    )
    processes.start(
        local_cluster,
        "kube-scheduler",
        [
            str(programs / "kube-scheduler"),
            f"--kubeconfig={etc}/kube-scheduler.kubeconfig",
            *("--leader-elect=false", "--bind-address=127.0.0.1"),
        ],
    )


def _start_services(local_cluster: LocalCluster, programs: Path) -> None:
    etc = local_cluster.root / "etc"
    processes.start(
        local_cluster,
        "kubelet",
        [
            str(programs / "kubelet"),
            *(f"--config={etc}/kubelet.yaml", f"--kubeconfig={etc}/kubelet.kubeconfig"),
            *(f"--root-dir={local_cluster.root}/kubelet", f"--cert-dir={local_cluster.root}/kubelet/pki"),
            *(f"--hostname-override={local_cluster.name}", f"--node-ip={NODE_IP}"),
        ],
    )
    processes.start(
        local_cluster, "kube-proxy", [str(programs / "kube-proxy"), f"--config={etc}/kube-proxy.yaml"]
    )
    processes.start(local_cluster, "coredns", [str(programs / "coredns"), "-conf", f"{etc}/Corefile"])
    processes.start(
        local_cluster,
        "local-volumes",
        [sys.executable, "-m", "tests.cluster.testcluster.provisioner"],
        {"MAILPODS_CLUSTER": local_cluster.name},
    )


def _start_firewall(local_cluster: LocalCluster, programs: Path) -> None:
    """NetworkPolicies hold, as on clusters whose network enforces them. It wants the node to be there."""
    processes.start(
        local_cluster,
        "kube-router",
        [
            str(programs / "kube-router"),
            *("--run-firewall=true", "--run-router=false", "--run-service-proxy=false"),
            f"--kubeconfig={local_cluster.root}/etc/kube-router.kubeconfig",
            f"--hostname-override={local_cluster.name}",
            *(f"--service-cluster-ip-range={SERVICE_NETWORK}", "--metrics-port=0"),
            f"--health-port={_FIREWALL_HEALTH}",
        ],
    )
    _wait(
        local_cluster,
        "kube-router",
        lambda: _answers(local_cluster, f"http://127.0.0.1:{_FIREWALL_HEALTH}/healthz"),
    )


def _see_that_pods_reach_the_api(local_cluster: LocalCluster, programs: Path) -> None:
    """A cluster whose pods cannot reach the API server is not up. What leads there is started anew once."""

    def kubectl(*arguments: str, input: str | None = None) -> str:
        command = _kubectl_command(local_cluster, *arguments)
        return subprocess.run(command, check=True, input=input, stdout=subprocess.PIPE, text=True).stdout

    why = pod_network.check(local_cluster, kubectl)
    if why is None:
        return
    print(f"pods do not reach the API server ({why}): starting kube-proxy anew", file=sys.stderr)
    processes.stop(local_cluster, "kube-proxy")
    _start_services(local_cluster, programs)
    if (why := pod_network.check(local_cluster, kubectl)) is not None:
        rules = pod_network.rules(local_cluster) or "none: kube-proxy has not written any"
        raise NotReady(
            f"pods do not reach the API server: {why}\nRules that lead to it: {rules}\n"
            f"See kube-proxy.log and kube-router.log in {local_cluster.root}/logs"
        )


def _wait(local_cluster: LocalCluster, name: str, ready: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if not processes.running(local_cluster, name) or time.monotonic() > deadline:
            raise NotReady(f"{name} is not ready: see {local_cluster.root}/logs/{name}.log")
        time.sleep(0.2)


def _kubectl(local_cluster: LocalCluster, *arguments: str) -> None:
    subprocess.run(_kubectl_command(local_cluster, *arguments), check=True, stdout=subprocess.DEVNULL)


def _kubectl_succeeds(local_cluster: LocalCluster, *arguments: str) -> bool:
    return _succeeds(_kubectl_command(local_cluster, *arguments))


def _kubectl_command(local_cluster: LocalCluster, *arguments: str) -> list[str]:
    program = str(local_cluster.root / "bin" / "kubectl")
    return [*network.inside(local_cluster), program, f"--kubeconfig={local_cluster.kubeconfig}", *arguments]


def _answers(local_cluster: LocalCluster, url: str) -> bool:
    get = f"import urllib.request; urllib.request.urlopen({url!r}, timeout=2)"
    return _succeeds([*network.inside(local_cluster), sys.executable, "-c", get])


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


def _end_containers(local_cluster: LocalCluster) -> None:
    """Kill what runs in pods; containerd's own shims end with their last container."""
    ctr = ["ctr", "--address", str(local_cluster.containerd_socket), "--namespace", "k8s.io", "tasks"]
    listed = subprocess.run([*ctr, "list", "--quiet"], capture_output=True, text=True, timeout=30)
    if tasks := listed.stdout.split():
        subprocess.run([*ctr, "delete", "--force", *tasks], capture_output=True, timeout=120)


def _unmount(root: Path) -> None:
    """Unmount everything below a folder, the latest mount first."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        target = line.split(" ")[1].encode().decode("unicode_escape")
        if Path(target).is_relative_to(root):
            subprocess.run(["umount", "--lazy", target], check=False)
