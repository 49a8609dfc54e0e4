"""Makes PersistentVolumes of type `local` for claims: folders of the node, deleted with their claims.

Unlike those of `hostPath`, they are given to a pod's fsGroup. Run as a module, it works until it is ended.
"""

import base64
import json
import shutil
import ssl
import tempfile
import time
import traceback
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.cluster.testcluster.places import STORAGE_PROVISIONER, LocalCluster, chosen

_POLL_SECONDS = 0.3
_PROVISIONER_KEY = "volume.kubernetes.io/storage-provisioner"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"

Object = dict[str, Any]


class Api:
    """Requests to the API server with the credentials of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server = cluster["server"]
        self._context = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        with tempfile.NamedTemporaryFile() as both:  # ssl takes a client's certificate from files only
            for part in ("client-key-data", "client-certificate-data"):
                both.write(base64.b64decode(user[part]))
            both.flush()
            self._context.load_cert_chain(both.name)

    def request(self, method: str, path: str, body: Object | None = None) -> Object:
        """Send a request; return the answered object.

        Raises:
            urllib.error.HTTPError: refused, with the status code.
            OSError: not reachable.
        """
        request = urllib.request.Request(
            self._server + path,
            method=method,
            data=json.dumps(body).encode() if body else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, context=self._context, timeout=10) as answer:
            decoded: Object = json.load(answer)
        return decoded


def volume(claim: Object, path: Path, node: str) -> Object:
    """The PersistentVolume that answers a claim with a folder of a node."""
    metadata, spec = claim["metadata"], claim["spec"]
    on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"pvc-{metadata['uid']}",
            "annotations": {_PROVISIONED_BY: STORAGE_PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "storageClassName": spec.get("storageClassName", ""),
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                **{key: metadata[key] for key in ("namespace", "name", "uid")},
            },
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
        },
    }


def step(local_cluster: LocalCluster, api: Api) -> None:
    """Make the volumes that are asked for, and delete those whose claims are gone."""
    volumes = api.request("GET", "/api/v1/persistentvolumes")["items"]
    names = {each["metadata"]["name"] for each in volumes}
    for claim in api.request("GET", "/api/v1/persistentvolumeclaims")["items"]:
        # The volume controller writes the annotation once a pod that uses the claim was scheduled.
        asked = claim["metadata"].get("annotations", {}).get(_PROVISIONER_KEY) == STORAGE_PROVISIONER
        name = f"pvc-{claim['metadata']['uid']}"
        if asked and name not in names and not claim["spec"].get("volumeName"):
            path = local_cluster.root / "volumes" / name
            path.mkdir(parents=True, exist_ok=True)
            api.request("POST", "/api/v1/persistentvolumes", volume(claim, path, local_cluster.name))
    for each in volumes:
        ours = each["metadata"].get("annotations", {}).get(_PROVISIONED_BY) == STORAGE_PROVISIONER
        delete = each["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
        if ours and delete and each["status"].get("phase") == "Released":
            shutil.rmtree(each["spec"]["local"]["path"], ignore_errors=True)
            api.request("DELETE", f"/api/v1/persistentvolumes/{each['metadata']['name']}")


def main() -> None:
    """Serve the claims of the chosen cluster until the process is ended."""
    local_cluster = chosen()
    api = Api(local_cluster.root / "etc" / "local-volumes.kubeconfig")
    while True:
        try:
            step(local_cluster, api)
        except (OSError, urllib.error.HTTPError):  # the API server restarts, or a claim changed meanwhile
            traceback.print_exc()
            time.sleep(1)
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
