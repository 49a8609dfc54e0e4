"""The command line: `python -m tests.cluster.testcluster up|down|load|env|exec`."""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.cluster.testcluster import cluster, images, network
from tests.cluster.testcluster.places import CHECKOUT, LocalCluster, chosen


def variables(local_cluster: LocalCluster) -> dict[str, str]:
    """The environment in which kubectl, helm and ctr speak to the cluster, from inside its namespace."""
    return {
        "KUBECONFIG": str(local_cluster.kubeconfig),
        "CONTAINERD_ADDRESS": str(local_cluster.containerd_socket),
        "CONTAINERD_NAMESPACE": "k8s.io",
        # kubectl and helm; kubectl-mailpods, which kubectl finds as its plugin.
        "PATH": f"{local_cluster.root}/bin:{CHECKOUT}/.venv/bin:{os.environ['PATH']}",
        "MAILPODS_NETNS": str(local_cluster.netns),
        "MAILPODS_AUDIT_LOG": str(local_cluster.audit_log),
        "MAILPODS_ZONES": str(local_cluster.zones),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.testcluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the cluster, and leave it running; print its kubeconfig's path")
    commands.add_parser("down", help="stop it, and delete what it wrote")
    commands.add_parser("env", help="print the variables for a shell")
    load = commands.add_parser("load", help="import images")
    load.add_argument("archives", nargs="+", type=Path, metavar="IMAGE.tar")
    inside = commands.add_parser("exec", help="run a command inside the cluster's network namespace")
    inside.add_argument("arguments", nargs=argparse.REMAINDER, metavar="COMMAND")
    arguments = parser.parse_args()
    local_cluster = chosen()
    try:
        match arguments.command:
            case "up":
                cluster.up(local_cluster)
                print(local_cluster.kubeconfig)
            case "down":
                cluster.down(local_cluster)
            case "env":
                for name, value in variables(local_cluster).items():
                    print(f"export {name}={shlex.quote(value)}")
            case "load":
                for archive in arguments.archives:
                    images.load(local_cluster, archive)
            case "exec":
                command = [*network.inside(local_cluster), *arguments.arguments]
                os.execvpe(command[0], command, {**os.environ, **variables(local_cluster)})
    except (cluster.NotReady, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
