"""The control plane and the node: each component, its configuration, and when it is up."""

import json
import subprocess
import sys

from tests.cluster.ground.certificates import kubeconfig
from tests.cluster.ground.places import (
    API_PORT,
    AUDIT,
    BIN,
    CERTIFICATES,
    CONTAINERD,
    ETCD_PORT,
    KUBECONFIG,
    NODE,
    PODS,
    SERVICES,
    STATE,
)
from tests.cluster.ground.processes import inside, running, start, wait, write

_PAUSE = "docker.io/library/pause:local"


def up() -> None:
    """Start what does not run, in order, each once the one before it answers."""
    control_plane()
    containerd()
    node()


def control_plane() -> None:
    """etcd, API server with an audit log, controllers, scheduler."""
    if not running("etcd"):
        data, client = str(STATE / "etcd"), f"http://127.0.0.1:{ETCD_PORT}"
        etcd = ["etcd", "--data-dir", data, "--unsafe-no-fsync", "--log-level", "warn"]
        etcd += ["--listen-client-urls", client, "--advertise-client-urls", client]
        start("etcd", *etcd, "--listen-peer-urls", "http://127.0.0.1:2380")
    if not running("kube-apiserver"):
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata"}],
        }
        audit = write(STATE / "audit.json", json.dumps(policy))
        c = CERTIFICATES
        start(
            "kube-apiserver",
            str(BIN / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{ETCD_PORT}",
            f"--bind-address={NODE}",
            f"--advertise-address={NODE}",
            f"--secure-port={API_PORT}",
            f"--client-ca-file={c}/ca.crt",
            f"--tls-cert-file={c}/apiserver.crt",
            f"--tls-private-key-file={c}/apiserver.key",
            f"--kubelet-client-certificate={c}/admin.crt",
            f"--kubelet-client-key={c}/admin.key",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={c}/accounts.key",
            f"--service-account-signing-key-file={c}/accounts.key",
            f"--service-cluster-ip-range={SERVICES}",
            f"--audit-policy-file={audit}",
            f"--audit-log-path={AUDIT}",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
        )
    kubeconfig(KUBECONFIG, "admin")
    wait(lambda: _kubectl("get", "--raw", "/readyz") == "ok", 60, "the API server")
    for name in ("kube-controller-manager", "kube-scheduler"):
        if not running(name):
            config = str(kubeconfig(STATE / f"{name}.kubeconfig", name))
            extra = [
                f"--root-ca-file={CERTIFICATES}/ca.crt",
                f"--service-account-private-key-file={CERTIFICATES}/accounts.key",
                "--use-service-account-credentials",
                f"--cluster-cidr={PODS}",
                "--allocate-node-cidrs",
            ]
            start(
                name,
                str(BIN / name),
                f"--kubeconfig={config}",
                "--leader-elect=false",
                *(extra if name == "kube-controller-manager" else ()),
            )


def containerd() -> None:
    """The container runtime, with a bridge for pods."""
    cni = STATE / "cni"
    write(
        cni / "10-bridge.conflist",
        json.dumps(
            {
                "cniVersion": "1.0.0",
                "name": "pods",
                "plugins": [
                    {
                        "type": "bridge",
                        "bridge": "pods",
                        "isGateway": True,
                        "hairpinMode": True,
                        "ipam": {
                            "type": "host-local",
                            "ranges": [[{"subnet": "10.124.0.0/24"}]],
                            "routes": [{"dst": "0.0.0.0/0"}],
                            "dataDir": str(STATE / "ipam"),
                        },
                    },
                    {"type": "portmap", "capabilities": {"portMappings": True}},
                ],
            }
        ),
    )
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE no container starts otherwise.
    config = write(
        STATE / "containerd.toml",
        f"""version = 2
root = "{STATE}/containerd"
state = "{STATE}/containerd-state"
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{_PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
""",
    )
    if not running("containerd"):
        start("containerd", "containerd", "--config", str(config))
    wait(lambda: _ctr("version") is not None, 30, "containerd")


def load(archive: str) -> None:
    """Import an image archive."""
    if _ctr("images", "import", archive) is None:
        raise RuntimeError(f"{archive}: containerd does not take it")


def has_image(name: str) -> bool:
    """Whether an image of this name is there."""
    return name in (_ctr("images", "ls", "-q") or "").split()


def node() -> None:
    """kubelet and kube-proxy."""
    if not running("kubelet"):
        resolv = write(STATE / "resolv.conf", f"nameserver {NODE}\n")
        settings = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "cgroupsPerQOS": True,
            "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
            "clusterDNS": [NODE],
            "clusterDomain": "cluster.local",
            "resolvConf": str(resolv),
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "authentication": {"x509": {"clientCAFile": f"{CERTIFICATES}/ca.crt"}},
            "address": NODE,
            "registerNode": True,
        }
        start(
            "kubelet",
            str(BIN / "kubelet"),
            f"--config={write(STATE / 'kubelet.json', json.dumps(settings))}",
            f"--kubeconfig={kubeconfig(STATE / 'kubelet.kubeconfig', 'kubelet')}",
            "--hostname-override=node",
            f"--node-ip={NODE}",
            f"--root-dir={STATE}/kubelet",
        )
    if not running("kube-proxy"):
        settings = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clusterCIDR": PODS,
            "hostnameOverride": "node",
            "conntrack": {"maxPerCore": 0, "min": 0},  # its sysctls are not ours to set
            "clientConnection": {"kubeconfig": str(kubeconfig(STATE / "proxy.kubeconfig", "kube-proxy"))},
        }
        start(
            "kube-proxy",
            str(BIN / "kube-proxy"),
            f"--config={write(STATE / 'proxy.json', json.dumps(settings))}",
        )
    ready = ("get", "node", "node", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}")
    wait(lambda: _kubectl(*ready) == "True", 90, "the node")
    _kubectl("taint", "node", "node", "node.kubernetes.io/not-ready-")
    if not running("coredns"):
        corefile = f""".:53 {{
    kubernetes cluster.local {{
        kubeconfig {kubeconfig(STATE / "coredns.kubeconfig", "coredns")}
        ttl 1
    }}
}}
"""
        start("coredns", str(BIN / "coredns"), "-conf", str(write(STATE / "Corefile", corefile)))
    if not running("volumes"):
        start("volumes", sys.executable, "-m", "tests.cluster.ground.volumes")


def _kubectl(*arguments: str) -> str | None:
    return _quiet(str(BIN / "kubectl"), f"--kubeconfig={KUBECONFIG}", *arguments)


def _ctr(*arguments: str) -> str | None:
    return _quiet("ctr", f"--address={CONTAINERD}", "--namespace=k8s.io", *arguments)


def _quiet(*command: str) -> str | None:
    """What it printed; None where it failed."""
    done = subprocess.run(inside(*command), capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None
