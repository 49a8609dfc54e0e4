"""Brings images into the cluster's containerd."""

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from tests.cluster.testcluster.places import PAUSE_IMAGE, LocalCluster


def load(local_cluster: LocalCluster, archive: Path) -> None:
    """Import an archive as `docker save` writes it; pods then use the names that it carries.

    Raises:
        subprocess.CalledProcessError: not such an archive, or containerd does not run.
    """
    command = ["ctr", "--address", str(local_cluster.containerd_socket), "--namespace", "k8s.io"]
    subprocess.run([*command, "images", "import", str(archive)], check=True, stdout=subprocess.DEVNULL)


def load_pause(local_cluster: LocalCluster, program: Path) -> None:
    """Import the image of the process that holds each pod's namespaces: one static program."""
    archive = local_cluster.root / "pause.tar"
    if not archive.exists():
        layer = _tar({"pause": program.read_bytes()})
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
        manifest = [{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]
        archive.write_bytes(
            _tar(
                {
                    "layer.tar": layer,
                    "config.json": json.dumps(config).encode(),
                    "manifest.json": json.dumps(manifest).encode(),
                }
            )
        )
        load(local_cluster, archive)


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
