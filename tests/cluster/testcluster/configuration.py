"""The configuration files of the cluster's programs."""

import json
import textwrap
from typing import Any

from tests.cluster.testcluster.places import (
    NODE_IP,
    PAUSE_IMAGE,
    POD_NETWORK,
    STORAGE_PROVISIONER,
    VOLUMES_USER,
    LocalCluster,
)


def write(local_cluster: LocalCluster) -> None:
    """Write them all to the folder `etc` of the cluster."""
    folder = local_cluster.root / "etc"
    for needed in (folder / "cni", local_cluster.zones):
        needed.mkdir(parents=True, exist_ok=True)
    (folder / "containerd.toml").write_text(_containerd(local_cluster))
    (folder / "Corefile").write_text(_corefile(local_cluster))
    # What the kubelet hands to pods with dnsPolicy Default: names outside the cluster do not exist.
    (folder / "resolv.conf").write_text(f"nameserver {NODE_IP}\n")
    for name, content in (
        ("cni/10-pods.conflist", _cni(local_cluster)),
        ("kubelet.yaml", _kubelet(local_cluster)),
        ("kube-proxy.yaml", _kube_proxy(local_cluster)),
        ("audit.yaml", _AUDIT),
        ("objects.yaml", {"apiVersion": "v1", "kind": "List", "items": _OBJECTS}),
    ):
        (folder / name).write_text(json.dumps(content, indent=1))


def _containerd(local_cluster: LocalCluster) -> str:
    return textwrap.dedent(f"""\
        version = 2
        root = "{local_cluster.root}/containerd/root"
        state = "{local_cluster.root}/containerd/state"
        disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs"]
        [grpc]
        address = "{local_cluster.containerd_socket}"
        [plugins."io.containerd.grpc.v1.cri"]
        sandbox_image = "{PAUSE_IMAGE}"
        netns_mounts_under_state_dir = true
        # Machines that are containers themselves may not lower a process's score.
        restrict_oom_score_adj = true
        disable_tcp_service = true
        [plugins."io.containerd.grpc.v1.cri".cni]
        bin_dir = "/usr/lib/cni"
        conf_dir = "{local_cluster.root}/etc/cni"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"
        """)


def _cni(local_cluster: LocalCluster) -> dict[str, Any]:
    # Point to point rather than a bridge: all packets pass the node's rules, also those between its pods.
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": f"{local_cluster.root}/cni",
                    "ranges": [[{"subnet": POD_NETWORK}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _kubelet(local_cluster: LocalCluster) -> dict[str, Any]:
    pki = local_cluster.root / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/kubelet.crt",
        "tlsPrivateKeyFile": f"{pki}/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{local_cluster.containerd_socket}",
        "podLogsDir": f"{local_cluster.root}/pods-logs",
        "clusterDomain": "cluster.local",
        "clusterDNS": [NODE_IP],
        "resolvConf": f"{local_cluster.root}/etc/resolv.conf",
        "cgroupDriver": "cgroupfs",
        # Of its own: a kubelet kills what it does not know below its root, such as pods of another one.
        "cgroupRoot": f"/{local_cluster.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "maxPods": 200,
        "serializeImagePulls": False,
        # A full disk of the machine is no reason to evict the tests.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }


def _kube_proxy(local_cluster: LocalCluster) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": POD_NETWORK,
        "hostnameOverride": local_cluster.name,
        "oomScoreAdj": 0,
        "clientConnection": {"kubeconfig": f"{local_cluster.root}/etc/kube-proxy.kubeconfig"},
        "nodePortAddresses": [f"{NODE_IP}/32"],
        # The machine's limits are not this namespace's to change.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def _corefile(local_cluster: LocalCluster) -> str:
    reverse = "in-addr.arpa"
    # Names that nobody holds do not exist, at once. In the same server, `template` would precede zones.
    return textwrap.dedent(f"""\
        . {{
            bind {NODE_IP}
            errors
            kubernetes cluster.local {reverse} {{
                kubeconfig {local_cluster.root}/etc/coredns.kubeconfig
                ttl 1
                fallthrough {reverse}
            }}
            auto {{
                directory {local_cluster.zones} db\\.(.*) {{1}}
                reload 1s
            }}
            forward . {NODE_IP}:5300
            ready {NODE_IP}:8181
        }}
        .:5300 {{
            bind {NODE_IP}
            template ANY ANY {{
                rcode NXDOMAIN
            }}
        }}
        """)


_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # The provisioner polls; that would be most of the log.
        {"level": "None", "users": [VOLUMES_USER], "verbs": ["get", "list", "watch"]},
        {"level": "Metadata"},
    ],
}


def _role(name: str, rules: list[dict[str, list[str]]]) -> list[dict[str, Any]]:
    """A ClusterRole, given to the user of the same name."""
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": name}],
        },
    ]


_OBJECTS: list[dict[str, Any]] = [
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "local",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": STORAGE_PROVISIONER,
        "reclaimPolicy": "Delete",
        "allowVolumeExpansion": True,
        "volumeBindingMode": "WaitForFirstConsumer",
    },
    *_role(
        "system:coredns",
        [
            {
                "apiGroups": [""],
                "resources": ["endpoints", "services", "pods", "namespaces"],
                "verbs": ["list", "watch"],
            },
            {
                "apiGroups": ["discovery.k8s.io"],
                "resources": ["endpointslices"],
                "verbs": ["list", "watch"],
            },
        ],
    ),
    *_role(
        VOLUMES_USER,
        [
            {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["list"]},
            {
                "apiGroups": [""],
                "resources": ["persistentvolumes"],
                "verbs": ["list", "create", "delete"],
            },
        ],
    ),
]
