"""The chart renders to what a restricted cluster takes, gives few rights, and refuses nonsense."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mail_operator.compiler.workloads import USER
from mail_operator.kinds import KINDS
from mail_operator.kinds.crd import crd
from mail_operator.kinds.rights import (
    READ,
    of_the_operator,
    of_those_who_keep_users,
    of_those_who_look,
    of_those_who_make_domains,
)

from tests.support import helm, install
from tests.support.charting import Object, by_name, objects_of, rendered
from tests.support.helm import CHART, ROOT, HelmError, sets, template

pytestmark = pytest.mark.skipif(
    helm.find() is None, reason="no helm: install Go, then run python -m tests.support.helm"
)

SERVER = ["mailServer.enabled=true", "mailServer.spec.hostname=mail.example.org"]
EVERYTHING = [
    *SERVER,
    "mailServer.namespace=mail-system",
    "metrics.podMonitor.enabled=true",
    "metrics.podMonitor.interval=30s",
    "metrics.podMonitor.labels.release=prometheus",
    "monitoring.dashboards.enabled=true",
    "monitoring.rules.enabled=true",
    "monitoring.rules.labels.release=prometheus",
    "monitoring.rules.runbooks=https://wiki.example.org/mail/",
    "priorityClassName=system-cluster-critical",
    "image.repository=example.org/mailpods-operator",
    "image.tag=test",
    "imagePullSecrets={pull}",
    "nodeSelector.disk=ssd",
    "tolerations[0].operator=Exists",
    "affinity.nodeAffinity.x=y",
    "podAnnotations.a=b",
]
MONITORING = ["--api-versions", "monitoring.coreos.com/v1"]
KNOWN = ["--api-versions", "mailpods.io/v1alpha1/MailServer", *MONITORING]
MONITORED = {"PodMonitor", "PrometheusRule"}
PLURALS = {kind.plural for kind in KINDS.values()}


@pytest.fixture(scope="module")
def default() -> list[Object]:
    """The chart as it is."""
    return rendered()


@pytest.fixture(scope="module")
def full() -> list[Object]:
    """The chart with everything on, in a cluster that has the kinds."""
    return rendered(*EVERYTHING, arguments=KNOWN)


@pytest.mark.parametrize("values", [[], EVERYTHING], ids=["default", "everything"])
def test_helm_finds_no_fault(values: list[str]) -> None:
    helm.helm("lint", "--strict", str(CHART), *sets(values))


def test_what_is_installed(default: list[Object], full: list[Object]) -> None:
    kinds = {
        *("CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"),
        *("Deployment", "NetworkPolicy"),
    }
    assert {o["kind"] for o in default} == kinds
    assert {o["kind"] for o in full} == kinds | {*MONITORED, "ConfigMap", "MailServer"}


def test_the_crds_are_those_of_the_models_and_stay(default: list[Object]) -> None:
    for kind in KINDS.values():
        found = by_name(default, "CustomResourceDefinition")[f"{kind.plural}.mailpods.io"]
        assert found["spec"] == crd(kind)["spec"]
        assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    unkept = by_name(rendered("crds.keep=false"), "CustomResourceDefinition")
    assert len(unkept) == len(KINDS)
    assert not any("annotations" in found["metadata"] for found in unkept.values())
    assert not by_name(rendered("crds.enabled=false"), "CustomResourceDefinition")


def test_the_operator_runs_once_and_restricted(default: list[Object], full: list[Object]) -> None:
    """Pod Security Standards, profile restricted: each field that it looks at."""
    for objects in (default, full):
        (deployment,) = by_name(objects, "Deployment").values()
        assert deployment["spec"]["replicas"] == 1
        assert deployment["spec"]["strategy"] == {"type": "Recreate"}
        pod = deployment["spec"]["template"]["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert all(volume.keys() <= {"name", "emptyDir"} for volume in pod["volumes"])
        assert "initContainers" not in pod
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container["ports"])
        assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
        assert container["resources"].keys() == {"requests", "limits"}
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports == {"admin": 8080}
        assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_only_the_operator_s_pod_gets_a_token(default: list[Object]) -> None:
    (account,) = by_name(default, "ServiceAccount").values()
    (deployment,) = by_name(default, "Deployment").values()
    assert account["automountServiceAccountToken"] is False
    pod = deployment["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is True
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    (binding,) = by_name(default, "ClusterRoleBinding").values()
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": "mailpods-system"}
    ]
    assert binding["roleRef"]["name"] == "mailpods-operator"


def test_the_operator_is_not_taken_for_a_mail_pod(default: list[Object]) -> None:
    """Mail pods are selected by name mailpods, and trust each other."""
    (deployment,) = by_name(default, "Deployment").values()
    assert deployment["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] != "mailpods"


def test_only_pods_reach_the_admin_port(default: list[Object], full: list[Object]) -> None:
    (policy,) = by_name(default, "NetworkPolicy").values()
    (deployment,) = by_name(default, "Deployment").values()
    assert policy["spec"]["podSelector"] == deployment["spec"]["selector"]
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert policy["spec"]["ingress"] == [
        {"from": [{"namespaceSelector": {}}], "ports": [{"port": "admin", "protocol": "TCP"}]}
    ]
    assert not by_name(rendered("networkPolicy.enabled=false"), "NetworkPolicy")


def test_prometheus_finds_the_operator_and_all_mail_pods(default: list[Object], full: list[Object]) -> None:
    monitors = by_name(full, "PodMonitor")
    operator, mail = monitors["mailpods-operator"]["spec"], monitors["mailpods-operator-mail"]["spec"]
    (deployment,) = by_name(default, "Deployment").values()
    assert operator["selector"] == deployment["spec"]["selector"]
    assert mail["selector"] == {"matchLabels": {"app.kubernetes.io/name": "mailpods"}}
    assert mail["namespaceSelector"] == {"any": True}
    for monitor in monitors.values():
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/name"
        assert {(e["path"], e["interval"]) for e in monitor["spec"]["podMetricsEndpoints"]} == {
            ("/metrics", "30s")
        }
    assert [e["port"] for e in operator["podMetricsEndpoints"]] == ["admin"]
    assert [e["port"] for e in mail["podMetricsEndpoints"]] == ["admin", "auth-admin"]


def test_kinds_that_the_cluster_does_not_know_are_left_out() -> None:
    assert not {o["kind"] for o in rendered(*EVERYTHING)} & MONITORED


def test_alerts_and_dashboard_are_those_of_the_files(full: list[Object]) -> None:
    (rule,) = by_name(full, "PrometheusRule").values()
    alerts = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    for group in alerts["groups"]:
        for each in group["rules"]:
            page = f"https://wiki.example.org/mail/{each['alert']}.md"
            each["annotations"]["runbook_url"] = page
    assert rule["spec"] == alerts
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    (shipped,) = by_name(full, "ConfigMap").values()
    assert shipped["metadata"]["labels"]["grafana_dashboard"] == "1"
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    assert json.loads(shipped["data"]["mailpods.json"]) == dashboard


def _rights(role: Object) -> dict[tuple[str, str], set[str]]:
    """(API group, resource) -> verbs."""
    rights: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        assert rule.keys() - {"resourceNames"} == {"apiGroups", "resources", "verbs"}
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for name in rule.get("resourceNames", [""]):
                    of = f"{resource}/{name}" if name else resource
                    rights.setdefault((group, of), set()).update(rule["verbs"])
    return rights


def _mail(role: Object) -> dict[str, set[str]]:
    """Resource -> verbs, of a role that is about mail alone."""
    rights = _rights(role)
    assert {group for group, _ in rights} == {"mailpods.io"}
    return {resource: verbs for (_, resource), verbs in rights.items()}


def test_no_role_has_a_wildcard(full: list[Object]) -> None:
    roles = by_name(full, "ClusterRole")
    assert len(roles) == 7
    for role in roles.values():
        assert "*" not in json.dumps(role["rules"])


def test_the_operator_s_rights(full: list[Object]) -> None:
    rights = _rights(by_name(full, "ClusterRole")["mailpods-operator"])
    see = {"list", "watch"}
    apply = see | {"create", "patch"}
    assert rights == {
        **{("mailpods.io", resource): verbs for resource, verbs in of_the_operator().items()},
        ("", "secrets"): apply | {"get"},
        ("", "services"): apply | {"get", "delete"},
        ("cert-manager.io", "certificates"): {"create", "patch", "delete"},
        ("apps", "statefulsets"): apply | {"delete"},
        ("apps", "deployments"): apply | {"delete"},
        ("networking.k8s.io", "networkpolicies"): apply | {"delete"},
        ("policy", "poddisruptionbudgets"): apply | {"delete"},
        ("", "persistentvolumeclaims"): {"list", "patch"},
        ("", "pods"): see | {"patch"},
        ("", "pods/eviction"): {"create"},
        ("apiextensions.k8s.io", "customresourcedefinitions/maildomains.mailpods.io"): {"get"},
        ("", "namespaces"): see,
        ("", "events"): {"create"},
    }


def test_config_makes_domains_and_maint_users(full: list[Object]) -> None:
    """What R-000-13 asks of the roles; whether an API server agrees, tests/cluster shows."""
    roles = by_name(full, "ClusterRole")
    assert _mail(roles["mail-config"]) == of_those_who_make_domains()
    assert _mail(roles["mail-maint"]) == of_those_who_keep_users()
    assert _mail(roles["mail-domain-admin"]) == of_those_who_keep_users()
    assert _mail(roles["mail-view"]) == of_those_who_look()


def test_only_one_role_reaches_pods(full: list[Object]) -> None:
    """pods/proxy reaches every HTTP port of a namespace's pods: whoever has it was given it for that."""
    roles = by_name(full, "ClusterRole")
    reaching = {
        name for name, role in roles.items() if any("pods/proxy" in r["resources"] for r in role["rules"])
    }
    assert reaching == {"mail-queue"}


def _aggregated(objects: list[Object], to: str) -> Iterator[Object]:
    for role in by_name(objects, "ClusterRole").values():
        if role["metadata"]["labels"].get(f"rbac.authorization.k8s.io/aggregate-to-{to}") == "true":
            yield role


def test_what_the_roles_of_kubernetes_get(default: list[Object]) -> None:
    (edit,) = _aggregated(default, "edit")
    changes = {resource for resource, verbs in _mail(edit).items() if verbs - READ}
    assert changes == {"mailboxes", "mailaliases", "mailinglists"}
    (view,) = _aggregated(default, "view")
    assert _mail(view) == {plural: READ for plural in PLURALS - {"mailboxes"}}  # hashes
    none = rendered("rbac.aggregate=false")
    assert [*_aggregated(none, "edit"), *_aggregated(none, "view")] == []
    assert set(by_name(rendered("rbac.tenantRoles=false"), "ClusterRole")) == {"mailpods-operator"}


def test_the_mailserver_waits_for_itsby_name() -> None:
    """Helm refuses a whole release for one object of a kind that the cluster does not know."""
    assert not by_name(rendered(*SERVER), "MailServer")
    server = by_name(rendered(*SERVER, arguments=KNOWN), "MailServer")["main"]
    assert server["spec"] == {"hostname": "mail.example.org"}
    assert server["metadata"]["namespace"] == "mailpods-system"
    # Else a rollback to the first revision, which has none, would delete it and all its pods.
    assert server["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("imgae.tag=1.0", "additional properties 'imgae' not allowed"),
        ("crds.keeep=true", "at '/crds': additional properties 'keeep' not allowed"),
        ("crds.keep=perhaps", "at '/crds/keep': got string, want boolean"),
        ("image.pullPolicy=Sometimes", "at '/image/pullPolicy': value must be one of"),
        ("mailServer.enabled=true", "at '/mailServer/spec': missing property 'hostname'"),
        ("mailServer.name=Main", "at '/mailServer/name': 'Main' does not match pattern"),
        ("mailServer.name=main.mail", "at '/mailServer/name': 'main.mail' does not match pattern"),
        ("mail.image=mailpods:1", "at '/mail/image': got string, want object"),
        ("mail.image.repository=", "at '/mail/image/repository': minLength: got 0, want 1"),
        ("image.digest=sha256:12", "at '/image/digest': 'sha256:12' does not match pattern"),
        ("imagePullSecrets[0].nam=x", "at '/imagePullSecrets/0'"),
        ("extraEnv[0].value=x", "at '/extraEnv/0': missing property 'name'"),
        ("watchNamespaces={Mail}", "at '/watchNamespaces/0': 'Mail' does not match pattern"),
        ("monitoring.rules.runbooks=docs/", "at '/monitoring/rules/runbooks': 'docs/' does not match"),
        ("replicas=2", "additional properties 'replicas' not allowed"),
    ],
)
def test_values_that_mean_nothing_are_refused(value: str, complaint: str) -> None:
    with pytest.raises(HelmError, match=re.escape(complaint)):
        rendered(value)


def _notes(tmp_path: Path, *values: str, arguments: tuple[str, ...] | list[str] = ()) -> str:
    """NOTES.txt, which helm shows only when it has spoken to a cluster, rendered like a manifest."""
    chart = tmp_path / "mailpods"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    shutil.copy(chart / "templates" / "NOTES.txt", chart / "files" / "notes.txt")
    wrapped = 'notes: |\n{{ tpl (.Files.Get "files/notes.txt") . | indent 2 }}\n'
    (chart / "templates" / "notes.yaml").write_text(wrapped)
    said = helm.helm(
        *("template", "mailpods", str(chart), "--namespace", "mailpods-system"),
        *("--show-only", "templates/notes.yaml"),
        *sets(values),
        *arguments,
    )
    notes: str = yaml.safe_load(said)["notes"]
    return notes


@pytest.mark.req("R-002-22")
def test_the_notes_say_what_comes_next(tmp_path: Path) -> None:
    plain = _notes(tmp_path)
    assert "Mass mailings (newsletters, notifications, mailing lists" in plain and "port\n4587" in plain
    assert "kubectl apply -f examples/quickstart\n" in plain
    assert "wait --for=condition=Ready mailbox/info" in plain
    assert "kubectl -n a-test get secret anna-password -o jsonpath" in plain
    assert "NOT MADE YET" not in plain
    assert "docs/runbooks/removal.md" in plain and (ROOT / "docs/runbooks/removal.md").exists()
    unknown = _notes(tmp_path, *SERVER)
    assert "THE MAILSERVER IS NOT MADE YET" in unknown
    assert "helm -n mailpods-system upgrade mailpods" in unknown
    known = _notes(tmp_path, *SERVER, arguments=KNOWN)
    assert "NOT MADE YET" not in known
    assert "kubectl -n mailpods-system wait --for=condition=Ready mailserver/main" in known
    assert "DELETES THE CRDS" in _notes(tmp_path, "crds.keep=false")


def test_the_package_holds_the_crds(tmp_path: Path) -> None:
    """What `helm package` packs renders as the folder does."""
    helm.helm("package", str(CHART), "--destination", str(tmp_path))
    packed = helm.helm(
        "template", "mailpods", str(tmp_path / "mailpods-0.1.0.tgz"), "--namespace", "mailpods-system"
    )
    assert packed == template()


def test_config_is_rendered_from_the_chart() -> None:
    assert install.INSTALL.read_text() == install.render(), "run: .venv/bin/python -m tests.support.install"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl")
def test_config_is_the_chart_with_its_namespace(default: list[Object]) -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "config")], check=True, capture_output=True, text=True
    )
    objects = objects_of(built.stdout)

    def names(objects: list[Object]) -> set[tuple[str, str]]:
        return {(o["kind"], o["metadata"]["name"]) for o in objects}

    assert names(objects) == names(default) | {("Namespace", "mailpods-system")}
    for found in by_name(objects, "CustomResourceDefinition").values():
        kind = KINDS[found["spec"]["names"]["kind"]]
        assert found["spec"] == crd(kind)["spec"]
