"""The network namespace: nothing in it can reach anything outside of it."""

from pathlib import Path

from tests.cluster.ground.places import NETWORK, NODE
from tests.cluster.ground.processes import inside, run


def make() -> None:
    """The namespace with loopback and the node's address; a default route, without which Services fail."""
    if Path("/run/netns", NETWORK).exists():
        return
    run("ip", "netns", "add", NETWORK)
    for command in (
        "ip link set lo up",
        "ip link add node type bridge",
        f"ip addr add {NODE}/24 dev node",
        "ip link set node up",
        "ip route add default via 10.123.0.254 dev node onlink",
        "sysctl -qw net.ipv4.ip_forward=1",
    ):
        run(*inside(*command.split()))


def remove() -> None:
    """Take it away."""
    if Path("/run/netns", NETWORK).exists():
        run("ip", "netns", "delete", NETWORK)
