"""Gives every PersistentVolumeClaim of the StorageClass `local` a folder of the node's.

Volumes of type `local`, for their group is set to the pod's fsGroup, as on real storage; hostPath's is not.
"""

import json
import time

from tests.cluster.ground.places import BIN, KUBECONFIG, VOLUMES
from tests.cluster.ground.processes import run

_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "mailpods.io/folders",
    "volumeBindingMode": "Immediate",
    "reclaimPolicy": "Retain",
}


def main() -> None:
    """Until it is ended."""
    _apply(_CLASS)
    while True:
        for claim in json.loads(_kubectl("get", "pvc", "-A", "-o", "json"))["items"]:
            if not claim["spec"].get("volumeName") and claim["spec"].get("storageClassName") == "local":
                _give(claim)
        time.sleep(0.5)


def _give(claim: dict) -> None:  # type: ignore[type-arg]
    meta, spec = claim["metadata"], claim["spec"]
    name = f"{meta['namespace']}-{meta['name']}-{meta['uid'][:8]}"  # of another claim of this name: another
    folder = VOLUMES / name
    folder.mkdir(parents=True, exist_ok=True)
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node"]}
    _apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": spec["resources"]["requests"],
                "accessModes": spec["accessModes"],
                "storageClassName": "local",
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]},
                "local": {"path": str(folder)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        }
    )


def _apply(manifest: dict) -> None:  # type: ignore[type-arg]
    _kubectl("apply", "-f", "-", stdin=json.dumps(manifest))


def _kubectl(*arguments: str, stdin: str | None = None) -> str:
    return run(str(BIN / "kubectl"), f"--kubeconfig={KUBECONFIG}", *arguments, stdin=stdin)


if __name__ == "__main__":
    main()
