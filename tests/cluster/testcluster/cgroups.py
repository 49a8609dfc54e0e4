"""The control group that holds the cluster's pods, in each of the machine's hierarchies."""

import os
from pathlib import Path

from tests.cluster.testcluster.places import LocalCluster

_MOUNT = Path("/sys/fs/cgroup")


def make(local_cluster: LocalCluster) -> None:
    """Make the group; with cgroup v2 it hands on all controllers, with v1 it begins with all CPUs."""
    for folder in _folders(local_cluster):
        folder.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (folder / "cpuset.cpu_exclusive").exists() and not (folder / file).read_text().strip():
                (folder / file).write_text((folder.parent / file).read_text())
        controllers = folder / "cgroup.controllers"
        if _unified() and controllers.exists():
            enable = " ".join(
                f"+{name}" for name in (folder.parent / "cgroup.controllers").read_text().split()
            )
            for parent in (folder.parent, folder):
                (parent / "cgroup.subtree_control").write_text(enable)


def delete(local_cluster: LocalCluster) -> None:
    """Remove the group with those inside it, the innermost first; one still in use stays."""
    for top in _folders(local_cluster):
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                continue


def _folders(local_cluster: LocalCluster) -> list[Path]:
    if _unified():
        return [_MOUNT / local_cluster.name]
    return [
        hierarchy / local_cluster.name
        for hierarchy in _MOUNT.iterdir()
        if (hierarchy / "cgroup.procs").exists()
    ]


def _unified() -> bool:
    """Whether this machine has cgroup v2 alone."""
    return (_MOUNT / "cgroup.controllers").exists()
