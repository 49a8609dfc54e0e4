"""The command line of the process cluster; see the package's docstring."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster import ground
from tests.cluster.ground import certificates, components, network
from tests.cluster.ground.places import KUBECONFIG, LOGS, STATE
from tests.cluster.ground.processes import end, inside, names


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    match arguments:
        case ["up"]:
            LOGS.mkdir(parents=True, exist_ok=True)
            network.make()
            certificates.make()
            components.up()
            print(KUBECONFIG)
        case ["load", *archives]:
            for archive in archives:
                components.load(archive)
        case ["has", image]:
            return 0 if components.has_image(image) else 1
        case ["down"]:
            down()
        case ["enter", *command]:
            os.environ["KUBECONFIG"] = str(KUBECONFIG)
            os.execvp("nsenter", inside(*command))
        case _:
            print(ground.__doc__, file=sys.stderr)
            return 2
    return 0


def down() -> None:
    """End the kubelet first, so that nothing is started again; then pods, then everything else."""
    end("kubelet")
    for pid in _shims():
        subprocess.run(["kill", "-9", f"-{pid}"], capture_output=True)
    for name in names():
        end(name)
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{STATE}/")), key=len, reverse=True):
        subprocess.run(["umount", "-l", mount], capture_output=True)
    network.remove()
    shutil.rmtree(STATE, ignore_errors=True)


def _shims() -> list[int]:
    """The runtime's helpers of this cluster's containers, by the address that they were told."""
    found = subprocess.run(["pgrep", "-f", f"containerd-shim.*{STATE}"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
