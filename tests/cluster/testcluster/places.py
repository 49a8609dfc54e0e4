"""Where the cluster keeps its files, and the addresses that it uses."""

import os
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
TOOLS = CHECKOUT / "tests" / "cluster" / "tools"
CACHE = Path(os.environ.get("MAILPODS_CACHE", "/var/cache/mailpods")) / "cluster"

# All of these exist only inside the cluster's network namespace.
NODE_IP = "10.250.0.10"
NODE_PREFIX = 24
POD_NETWORK = "10.251.0.0/16"
SERVICE_NETWORK = "10.252.0.0/16"
OUTSIDE = "198.18.0.1"  # the first of the world's addresses, whose names are said by tests (RFC 2544)
OUTSIDE_PREFIX = 24
API_SERVICE_IP = "10.252.0.1"  # the first of SERVICE_NETWORK, as the API server takes it
API_PORT = 6443
ETCD_URL = "http://127.0.0.1:2379"
PAUSE_IMAGE = "mailpods.io/pause:1"
STORAGE_PROVISIONER = "mailpods.io/local"
VOLUMES_USER = "system:local-volumes"  # as whom the provisioner speaks to the API server


@dataclass(frozen=True)
class LocalCluster:
    """The paths of one cluster. Its name is that of its network namespace, its cgroup and its node."""

    name: str

    @property
    def root(self) -> Path:
        """Everything that the cluster writes; `down` deletes it."""
        return CACHE / self.name

    @property
    def netns(self) -> Path:
        """The network namespace, for `nsenter --net=`."""
        return Path("/run/netns") / self.name

    @property
    def kubeconfig(self) -> Path:
        """Credentials of a cluster administrator."""
        return self.root / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        """What `ctr --address` and the kubelet connect to."""
        return self.root / "containerd.sock"

    @property
    def audit_log(self) -> Path:
        """One JSON line for each request to the API server."""
        return self.root / "audit.log"

    @property
    def zones(self) -> Path:
        """DNS zones that CoreDNS serves besides `cluster.local`, one file `db.ZONE` each."""
        return self.root / "zones"

    @property
    def api_url(self) -> str:
        """The API server, as reached inside the namespace."""
        return f"https://{NODE_IP}:{API_PORT}"


def chosen() -> LocalCluster:
    """The cluster that MAILPODS_CLUSTER names."""
    return LocalCluster(os.environ.get("MAILPODS_CLUSTER", "mailpods-test"))
