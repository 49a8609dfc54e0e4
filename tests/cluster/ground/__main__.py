"""The command line: `python -m tests.cluster.ground up|down|load|env|exec`."""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.cluster.ground import cluster, images, network
from tests.cluster.ground.places import Ground, chosen


def variables(ground: Ground) -> dict[str, str]:
    """The environment in which kubectl, helm and ctr speak to the cluster, from inside its namespace."""
    return {
        "KUBECONFIG": str(ground.kubeconfig),
        "CONTAINERD_ADDRESS": str(ground.containerd_socket),
        "CONTAINERD_NAMESPACE": "k8s.io",
        "PATH": f"{ground.root}/bin:{os.environ['PATH']}",
        "MAILPODS_NETNS": str(ground.netns),
        "MAILPODS_AUDIT_LOG": str(ground.audit_log),
        "MAILPODS_ZONES": str(ground.zones),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.ground", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the cluster, and leave it running; print its kubeconfig's path")
    commands.add_parser("down", help="stop it, and delete what it wrote")
    commands.add_parser("env", help="print the variables for a shell")
    load = commands.add_parser("load", help="import images")
    load.add_argument("archives", nargs="+", type=Path, metavar="IMAGE.tar")
    inside = commands.add_parser("exec", help="run a command inside the cluster's network namespace")
    inside.add_argument("arguments", nargs=argparse.REMAINDER, metavar="COMMAND")
    arguments = parser.parse_args()
    ground = chosen()
    try:
        match arguments.command:
            case "up":
                cluster.up(ground)
                print(ground.kubeconfig)
            case "down":
                cluster.down(ground)
            case "env":
                for name, value in variables(ground).items():
                    print(f"export {name}={shlex.quote(value)}")
            case "load":
                for archive in arguments.archives:
                    images.load(ground, archive)
            case "exec":
                command = [*network.inside(ground), *arguments.arguments]
                os.execvpe(command[0], command, {**os.environ, **variables(ground)})
    except (cluster.NotReady, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
