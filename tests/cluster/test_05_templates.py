"""Workloads stay as they were applied: volumes grow, what others add to pods is taken back."""

import json
import subprocess
from typing import Any

import pytest

from tests.cluster.installation import NAMESPACE, ClusterInstallation, fetched, kubectl
from tests.cluster.operator import Operator
from tests.support.installation import wait


def uid(kind: str, name: str) -> str:
    """Tells an object from later ones of its name."""
    return str(fetched(kind, name).get("metadata", {}).get("uid", ""))


def patch_server(spec: dict[str, Any]) -> None:
    """Change the MailServer, as an administrator does."""
    kubectl("patch", "mailserver", "main", "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"spec": spec}))


def is_ready(pod: str) -> bool:
    """Whether the pod takes traffic."""
    conditions = fetched("Pod", pod).get("status", {}).get("conditions", ())
    return {c["type"]: c["status"] for c in conditions}.get("Ready") == "True"


def test_volumes_grow_while_their_pods_go_on(installation: ClusterInstallation) -> None:
    pod, stateful_set = uid("Pod", "main-smtp-0"), uid("StatefulSet", "main-smtp")
    patch_server({"storage": {"spoolSize": "30Gi"}})

    def claimed() -> str:
        claim = fetched("PersistentVolumeClaim", "spool-main-smtp-0")
        return str(claim["spec"]["resources"]["requests"]["storage"])

    wait(lambda: claimed() == "30Gi", 60, "the claim does not grow")
    wait(lambda: uid("StatefulSet", "main-smtp") not in ("", stateful_set), 60, "it was not made anew")
    (template,) = fetched("StatefulSet", "main-smtp")["spec"]["volumeClaimTemplates"]
    assert template["spec"]["resources"]["requests"]["storage"] == "30Gi"
    installation.wait_for("MailServer", "main")
    assert uid("Pod", "main-smtp-0") == pod
    with pytest.raises(subprocess.CalledProcessError) as refused:
        patch_server({"storage": {"spoolSize": "20Gi"}})
    assert "spoolSize" in refused.value.__notes__[0]


def test_what_others_add_to_a_template_is_taken_back_and_a_stuck_pod_recovers(
    installation: ClusterInstallation, operator: Operator
) -> None:
    before = uid("Pod", "main-smtp-0")
    operator.stop()  # or the pod is gone before it is stuck
    added = [{"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"no-such-node": "x"}}]
    kubectl("patch", "statefulset", "main-smtp", "-n", NAMESPACE, "--type=json", "-p", json.dumps(added))
    wait(lambda: uid("Pod", "main-smtp-0") not in ("", before), 120, "nothing came of the patch")
    assert not is_ready("main-smtp-0")
    operator.start()
    wait(lambda: is_ready("main-smtp-0"), 120, "the pod does not recover")
    assert "nodeSelector" not in fetched("StatefulSet", "main-smtp")["spec"]["template"]["spec"]
    assert "nodeSelector" not in fetched("Pod", "main-smtp-0")["spec"]
    events = json.loads(kubectl("get", "events", "-n", NAMESPACE, "-o", "json"))["items"]
    assert any("nodeSelector" in event["message"] for event in events)
    installation.wait_for("MailServer", "main")
