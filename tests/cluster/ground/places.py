"""Where the process cluster keeps what, and its addresses."""

import os
from pathlib import Path

CACHE = Path(os.environ.get("MAILPODS_CACHE", "/var/cache/mailpods")) / "cluster"
BIN = CACHE / "bin"  # what `./run cluster` built from tests/cluster/tools
STATE = Path("/run/mailpods-cluster")
CERTIFICATES = STATE / "certificates"
LOGS = STATE / "logs"
KUBECONFIG = STATE / "kubeconfig"
AUDIT = LOGS / "audit.log"
VOLUMES = STATE / "volumes"

NETWORK = "mailpods"  # the network namespace
NODE = "10.123.0.1"  # on a bridge without ports, for the link type dummy may be missing
PODS = "10.124.0.0/16"
SERVICES = "10.125.0.0/16"
API_SERVICE = "10.125.0.1"
API_PORT = 6443
ETCD_PORT = 2379
CONTAINERD = STATE / "containerd.sock"
