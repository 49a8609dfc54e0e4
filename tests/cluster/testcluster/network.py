"""The network namespace that holds everything of the cluster, so that no packet can leave the machine."""

import subprocess
from pathlib import Path

from tests.cluster.testcluster.places import NODE_IP, NODE_PREFIX, OUTSIDE, OUTSIDE_PREFIX, LocalCluster

_BRIDGE = "node0"


def make(local_cluster: LocalCluster) -> None:
    """Make the namespace with the node's address in it, unless it is there.

    Raises:
        subprocess.CalledProcessError: not permitted, or there is one of this name that someone else has made.
    """
    if _ours(local_cluster).exists() and local_cluster.netns.exists():
        return
    subprocess.run(["ip", "netns", "add", local_cluster.name], check=True)
    _ours(local_cluster).touch()
    for command in (
        "ip link set lo up",
        # On this link each address of the prefix is one of the node's own.
        f"ip address add {OUTSIDE}/{OUTSIDE_PREFIX} dev lo",
        # A bridge without ports carries the address: not every kernel has the link type `dummy`.
        f"ip link add {_BRIDGE} type bridge",
        f"ip address add {NODE_IP}/{NODE_PREFIX} dev {_BRIDGE}",
        f"ip link set {_BRIDGE} up",
        # A Service's address needs a route before kube-proxy's rules get to see its packets.
        f"ip route add default dev {_BRIDGE}",
        "sysctl --quiet --write net.ipv4.ip_forward=1",
    ):
        subprocess.run([*inside(local_cluster), *command.split()], check=True)


def delete(local_cluster: LocalCluster) -> None:
    """Delete the namespace. Its links, addresses and rules end with it and with its last process."""
    if _ours(local_cluster).exists() and local_cluster.netns.exists():
        subprocess.run(["ip", "netns", "delete", local_cluster.name], check=True)
    _ours(local_cluster).unlink(missing_ok=True)


def inside(local_cluster: LocalCluster) -> list[str]:
    """What to put before a command that is to run in the namespace.

    `ip netns exec` is no alternative: it mounts /sys anew, and the kubelet no longer finds the cgroups.
    """
    return ["nsenter", f"--net={local_cluster.netns}", "--"]


def _ours(local_cluster: LocalCluster) -> Path:
    """The note that the namespace was made here: no other is ever deleted."""
    return local_cluster.root / "netns-made"
