"""Starts and stops the whole cluster."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.ground import certificates, cgroups, configuration, images, network, processes
from tests.cluster.ground.binaries import build
from tests.cluster.ground.places import (
    API_PORT,
    API_SERVICE_IP,
    ETCD_URL,
    NODE_IP,
    POD_NETWORK,
    SERVICE_NETWORK,
    VOLUMES_USER,
    Ground,
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


def up(ground: Ground) -> None:
    """Start what does not run, and wait until the node is ready; about ten seconds once built.

    Raises:
        NotReady: a part did not become ready.
        subprocess.CalledProcessError: a command failed, and has said why on standard error.
    """
    programs = build()
    if not any(processes.running(ground, name) for name in processes.started(ground)):
        down(ground)  # what a restart of the machine has left
    ground.root.mkdir(parents=True, exist_ok=True)
    (ground.root / "bin").unlink(missing_ok=True)
    (ground.root / "bin").symlink_to(programs)
    network.make(ground)
    cgroups.make(ground)
    _identify(ground)
    configuration.write(ground)
    _start_runtime(ground, programs)
    _start_control_plane(ground, programs)
    _kubectl(ground, "apply", "--server-side", "-f", f"{ground.root}/etc/objects.yaml")
    _start_services(ground, programs)
    ready = ("wait", "--for=condition=Ready", f"node/{ground.name}", "--timeout=5s")
    _wait(ground, "kubelet", lambda: _kubectl_succeeds(ground, *ready))
    _wait(ground, "coredns", lambda: _answers(ground, f"http://{NODE_IP}:8181/ready"))
    _start_firewall(ground, programs)
    # Pods are refused before their namespace's account is there.
    _wait(
        ground,
        "kube-controller-manager",
        lambda: _kubectl_succeeds(ground, "get", "serviceaccount", "default"),
    )


def down(ground: Ground) -> None:
    """End every process of the cluster, its pods' included, and delete all that it wrote but the programs."""
    processes.stop(ground, *(name for name in processes.started(ground) if name != "containerd"))
    if processes.running(ground, "containerd"):
        _end_containers(ground)
    processes.stop(ground, "containerd")
    for shim in processes.shims(ground):
        os.kill(shim, signal.SIGKILL)
    _unmount(ground.root)
    network.delete(ground)
    cgroups.delete(ground)
    for link in Path("/var/log/containers").glob("*.log"):  # where the kubelet puts them cannot be chosen
        if link.is_symlink() and link.readlink().is_relative_to(ground.root):
            link.unlink()
    shutil.rmtree(ground.root, ignore_errors=True)


def _identify(ground: Ground) -> None:
    """Make all certificates, keys and kubeconfigs, unless they are there."""
    pki, etc = ground.root / "pki", ground.root / "etc"
    if ground.kubeconfig.exists():
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
    node = f"system:node:{ground.name}"
    authority.issue("kubelet", node, ["system:nodes"], hosts=[ground.name, NODE_IP])
    certificates.write_key(pki / "service-accounts.key")
    certificates.write_kubeconfig(etc / "kubelet.kubeconfig", ground.api_url, pki, "kubelet")
    for name, (user, groups) in _IDENTITIES.items():
        authority.issue(name, user, groups)
        certificates.write_kubeconfig(etc / f"{name}.kubeconfig", ground.api_url, pki, name)
    shutil.copy(etc / "admin.kubeconfig", ground.kubeconfig)


def _start_runtime(ground: Ground, programs: Path) -> None:
    etc = ground.root / "etc"
    processes.start(
        ground,
        "etcd",
        [
            *("etcd", "--data-dir", f"{ground.root}/etcd", "--unsafe-no-fsync", "--logger", "zap"),
            *("--listen-client-urls", ETCD_URL, "--advertise-client-urls", ETCD_URL),
            *("--listen-peer-urls", "http://127.0.0.1:2380", "--quota-backend-bytes", str(4 << 30)),
            *("--log-level", "warn"),
        ],
    )
    processes.start(ground, "containerd", ["containerd", "--config", f"{etc}/containerd.toml"])
    ctr = ["ctr", "--address", str(ground.containerd_socket), "--connect-timeout", "1s", "version"]
    _wait(ground, "containerd", lambda: _succeeds(ctr))
    images.load_pause(ground, programs / "pause")


def _start_control_plane(ground: Ground, programs: Path) -> None:
    pki, etc = ground.root / "pki", ground.root / "etc"
    processes.start(
        ground,
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
            *(f"--audit-policy-file={etc}/audit.yaml", f"--audit-log-path={ground.audit_log}"),
            "--audit-log-maxsize=10000",  # megabytes: one file, so that counting needs to read only one
            "--shutdown-delay-duration=0s",
        ],
    )
    _wait(ground, "kube-apiserver", lambda: _kubectl_succeeds(ground, "get", "--raw=/readyz"))
    processes.start(
        ground,
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
        ground,
        "kube-scheduler",
        [
            str(programs / "kube-scheduler"),
            f"--kubeconfig={etc}/kube-scheduler.kubeconfig",
            *("--leader-elect=false", "--bind-address=127.0.0.1"),
        ],
    )


def _start_services(ground: Ground, programs: Path) -> None:
    etc = ground.root / "etc"
    processes.start(
        ground,
        "kubelet",
        [
            str(programs / "kubelet"),
            *(f"--config={etc}/kubelet.yaml", f"--kubeconfig={etc}/kubelet.kubeconfig"),
            *(f"--root-dir={ground.root}/kubelet", f"--cert-dir={ground.root}/kubelet/pki"),
            *(f"--hostname-override={ground.name}", f"--node-ip={NODE_IP}"),
        ],
    )
    processes.start(ground, "kube-proxy", [str(programs / "kube-proxy"), f"--config={etc}/kube-proxy.yaml"])
    processes.start(ground, "coredns", [str(programs / "coredns"), "-conf", f"{etc}/Corefile"])
    processes.start(
        ground,
        "local-volumes",
        [sys.executable, "-m", "tests.cluster.ground.provisioner"],
        {"MAILPODS_CLUSTER": ground.name},
    )


def _start_firewall(ground: Ground, programs: Path) -> None:
    """NetworkPolicies hold, as on clusters whose network enforces them. It wants the node to be there."""
    processes.start(
        ground,
        "kube-router",
        [
            str(programs / "kube-router"),
            *("--run-firewall=true", "--run-router=false", "--run-service-proxy=false"),
            f"--kubeconfig={ground.root}/etc/kube-router.kubeconfig",
            f"--hostname-override={ground.name}",
            *(f"--service-cluster-ip-range={SERVICE_NETWORK}", "--metrics-port=0"),
            f"--health-port={_FIREWALL_HEALTH}",
        ],
    )
    _wait(ground, "kube-router", lambda: _answers(ground, f"http://127.0.0.1:{_FIREWALL_HEALTH}/healthz"))


def _wait(ground: Ground, name: str, ready: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if not processes.running(ground, name) or time.monotonic() > deadline:
            raise NotReady(f"{name} is not ready: see {ground.root}/logs/{name}.log")
        time.sleep(0.2)


def _kubectl(ground: Ground, *arguments: str) -> None:
    subprocess.run(_kubectl_command(ground, *arguments), check=True, stdout=subprocess.DEVNULL)


def _kubectl_succeeds(ground: Ground, *arguments: str) -> bool:
    return _succeeds(_kubectl_command(ground, *arguments))


def _kubectl_command(ground: Ground, *arguments: str) -> list[str]:
    program = str(ground.root / "bin" / "kubectl")
    return [*network.inside(ground), program, f"--kubeconfig={ground.kubeconfig}", *arguments]


def _answers(ground: Ground, url: str) -> bool:
    get = f"import urllib.request; urllib.request.urlopen({url!r}, timeout=2)"
    return _succeeds([*network.inside(ground), sys.executable, "-c", get])


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


def _end_containers(ground: Ground) -> None:
    """Kill what runs in pods; containerd's own shims end with their last container."""
    ctr = ["ctr", "--address", str(ground.containerd_socket), "--namespace", "k8s.io", "tasks"]
    listed = subprocess.run([*ctr, "list", "--quiet"], capture_output=True, text=True, timeout=30)
    if tasks := listed.stdout.split():
        subprocess.run([*ctr, "delete", "--force", *tasks], capture_output=True, timeout=120)


def _unmount(root: Path) -> None:
    """Unmount everything below a folder, the latest mount first."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        target = line.split(" ")[1].encode().decode("unicode_escape")
        if Path(target).is_relative_to(root):
            subprocess.run(["umount", "--lazy", target], check=False)
