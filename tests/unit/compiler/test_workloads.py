"""What the platform team says of Services, nodes and resources reaches the objects."""

from typing import Any

from mail_operator.cluster.kinds import CHILDREN

from tests.support.compiling import SERVER, Compiled, server


def objects(**spec: Any) -> dict[tuple[str, str], Any]:
    """Objects by kind and name, of a server with this spec."""
    found = Compiled(server(**spec)).plan.objects
    return {(o["kind"], o["metadata"]["name"]): o for o in found}


def targets(service: Any) -> dict[int, str]:
    return {port["port"]: port["targetPort"] for port in service["spec"]["ports"]}


def test_the_world_comes_by_load_balancer_with_its_own_addresses() -> None:
    made = objects()
    for name in ("main-smtp", "main-store"):
        assert made["Service", name]["spec"]["type"] == "LoadBalancer"
        assert made["Service", name]["spec"]["externalTrafficPolicy"] == "Local"
    assert targets(made["Service", "main-smtp"]) == {25: "smtp", 587: "submission", 465: "submissions"}
    pod = made["StatefulSet", "main-smtp"]["spec"]["template"]["spec"]
    assert all("hostPort" not in port for c in pod["containers"] for port in c["ports"])


def test_a_load_balancer_that_sends_a_proxy_header_reaches_the_ports_for_it_and_nobody_else_does() -> None:
    made = objects(service={"proxies": ["192.0.2.0/28"], "annotations": {"lb/proxy": "v2"}})
    assert targets(made["Service", "main-smtp"])[25] == "smtp-pp"
    assert targets(made["Service", "main-store"])[993] == "imaps-pp"
    assert targets(made["Service", "main-store"])[4190] == "sieve"
    assert made["Service", "main-smtp"]["metadata"]["annotations"] == {"lb/proxy": "v2"}
    rules = made["NetworkPolicy", "main-smtp"]["spec"]["ingress"]
    (proxied,) = [rule for rule in rules if {"port": 3525, "protocol": "TCP"} in rule["ports"]]
    assert proxied["from"] == [{"ipBlock": {"cidr": "192.0.2.0/28"}}]


def test_pods_that_send_a_proxy_header_are_those_that_the_mail_server_selects() -> None:
    selected = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}},
        "podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["haproxy"]}]},
    }
    made = objects(service={"proxyPods": [selected, {"podSelector": {}}]})
    assert targets(made["Service", "main-smtp"])[25] == "smtp-pp"
    rules = made["NetworkPolicy", "main-store"]["spec"]["ingress"]
    (proxied,) = [rule for rule in rules if {"port": 3143, "protocol": "TCP"} in rule["ports"]]
    assert proxied["from"] == [selected, {"podSelector": {}}]  # the latter: of the MailServer's namespace


def test_nobody_tells_clients_addresses_unless_the_mail_server_names_him() -> None:
    made = objects(bulk={"replicas": 1}, portal={"replicas": 1})
    assert "-pp" not in str(made) and "_PP" not in str(made) and "mailpods.io/proxy" not in str(made)
    assert "3525" not in str(made) and "3143" not in str(made)


def test_other_types_of_service() -> None:
    inner = objects(service={"type": "ClusterIP"})["Service", "main-smtp"]["spec"]
    assert inner["type"] == "ClusterIP" and "externalTrafficPolicy" not in inner
    node = objects(service={"type": "NodePort", "externalTrafficPolicy": "Cluster"})
    assert node["Service", "main-store"]["spec"]["externalTrafficPolicy"] == "Cluster"
    own = objects(service={"loadBalancerClass": "example.com/lb"})["Service", "main-smtp"]["spec"]
    assert own["loadBalancerClass"] == "example.com/lb"


def test_host_ports_are_the_standard_ones() -> None:
    made = objects(service={"hostPorts": True})
    containers = made["StatefulSet", "main-store"]["spec"]["template"]["spec"]["containers"]
    bound = {p["name"]: p["hostPort"] for c in containers for p in c["ports"] if "hostPort" in p}
    assert bound == {"imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995, "sieve": 4190}


def test_pods_go_where_they_are_told_and_spread() -> None:
    toleration = {"key": "mail", "operator": "Exists", "effect": "NoSchedule"}
    told = {"priorityClassName": "high", "nodeSelector": {"disk": "ssd"}, "tolerations": [toleration]}
    made = objects(scheduling=told, store={"resources": {"limits": {"memory": "1Gi"}}})
    for name in ("main-smtp", "main-store"):
        pod = made["StatefulSet", name]["spec"]["template"]["spec"]
        assert pod["priorityClassName"] == "high" and pod["nodeSelector"] == {"disk": "ssd"}
        assert pod["tolerations"] == [toleration]
        assert [c["whenUnsatisfiable"] for c in pod["topologySpreadConstraints"]] == ["ScheduleAnyway"] * 2
    (store,) = made["StatefulSet", "main-store"]["spec"]["template"]["spec"]["containers"]
    assert store["resources"] == {
        "requests": {"cpu": "50m", "memory": "256Mi"},
        "limits": {"memory": "1Gi"},
    }


def test_pages_for_everybody_have_pods_that_know_no_secret() -> None:
    assert not any("portal" in name for _, name in objects())
    plan = Compiled(server()).plan
    gone = {(ref.kind, ref.name) for ref in plan.prunable[SERVER]}
    assert {(kind, "main-portal") for kind in CHILDREN} <= gone
    made = objects(portal={"replicas": 2, "url": "https://help.a.test/"})
    kinds = {kind for kind, name in made if name == "main-portal"}
    assert kinds == set(CHILDREN) - {"StatefulSet"}
    gone = {(ref.kind, ref.name) for ref in Compiled(server(portal={"replicas": 2})).plan.prunable[SERVER]}
    assert ("StatefulSet", "main-portal") in gone  # of an earlier version
    assert not any(kind != "StatefulSet" and name == "main-portal" for kind, name in gone)
    assert made["Service", "main-portal"]["spec"]["type"] == "ClusterIP"
    assert targets(made["Service", "main-portal"]) == {80: "portal"}
    assert made["NetworkPolicy", "main-portal"]["spec"]["egress"] == []
    deployment = made["Deployment", "main-portal"]["spec"]
    assert deployment["replicas"] == 2
    (secret,) = [v["secret"] for v in deployment["template"]["spec"]["volumes"] if "secret" in v]
    assert secret["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    assert "secretKeyRef" not in str(deployment)
    on_nodes = objects(portal={"replicas": 1}, service={"hostPorts": True})["Deployment", "main-portal"]
    assert "hostPort" not in str(on_nodes)  # where nodes have an Ingress of theirs


def test_what_is_added_to_all_pods_takes_nothing_of_their_own_away() -> None:
    added = {
        "labels": {"team": "mail", "app.kubernetes.io/component": "other"},
        "annotations": {"example.org/cost": "7"},
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "pull"}],
        "env": [{"name": "TZ", "value": "UTC"}, {"name": "PORT_ADMIN", "value": "1"}],
        "volumes": [
            {"name": "tls", "mountPath": "/etc/ssl/our", "configMap": {"name": "our-ca"}},
            {"name": "more", "mountPath": "/opt/more", "secret": {"name": "more"}},
        ],
    }
    for plain, made in zip(
        objects(portal={"replicas": 1}).values(),
        objects(portal={"replicas": 1}, pods=added).values(),
        strict=True,
    ):
        if made["kind"] not in ("StatefulSet", "Deployment"):
            continue
        before, after = plain["spec"]["template"], made["spec"]["template"]
        assert after["metadata"]["labels"] == {"team": "mail", **before["metadata"]["labels"]}
        assert after["metadata"]["annotations"] == added["annotations"]
        pod = after["spec"]
        assert pod["imagePullSecrets"] == added["imagePullSecrets"]
        assert pod["volumes"] == [
            *before["spec"]["volumes"],
            {"name": "added-tls", "configMap": {"name": "our-ca", "optional": True}},
            {"name": "added-more", "secret": {"secretName": "more", "optional": True}},
        ]
        for own, container in zip(before["spec"]["containers"], pod["containers"], strict=True):
            assert container["imagePullPolicy"] == "Always"
            assert container["env"] == [*own["env"], {"name": "TZ", "value": "UTC"}]
            assert container["volumeMounts"] == [
                *own["volumeMounts"],
                {"name": "added-tls", "mountPath": "/etc/ssl/our", "readOnly": True},
                {"name": "added-more", "mountPath": "/opt/more", "readOnly": True},
            ]
        assert made["spec"]["selector"] == plain["spec"]["selector"]


def pods(made: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """Name of a workload -> the spec of its pods."""
    workloads = {n: o for (kind, n), o in made.items() if kind in ("StatefulSet", "Deployment")}
    return {name: workload["spec"]["template"]["spec"] for name, workload in workloads.items()}


def test_no_pod_may_ask_the_api_server_or_become_more_than_it_is() -> None:
    """Pod Security Standards, "restricted"."""
    found = pods(objects(bulk={"replicas": 1}, portal={"replicas": 1}))
    assert set(found) == {"main-smtp", "main-store", "main-bulk", "main-portal"}
    for pod in found.values():
        assert pod["automountServiceAccountToken"] is False and "serviceAccountName" not in pod
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any("serviceAccountToken" in str(volume) for volume in pod["volumes"])
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_volumes_with_mail_outlive_their_pods_and_what_runs_them() -> None:
    made = objects(bulk={"replicas": 1})
    for name in ("main-smtp", "main-store", "main-bulk"):
        spec = made["StatefulSet", name]["spec"]
        assert spec["volumeClaimTemplates"]
        kept = {"whenDeleted": "Retain", "whenScaled": "Retain"}
        assert spec["persistentVolumeClaimRetentionPolicy"] == kept


def test_what_faces_the_world_by_smtp_sees_no_hash_and_its_authenticator_no_mail() -> None:
    mounts = {
        container["name"]: {mount["name"] for mount in container["volumeMounts"]}
        for container in pods(objects())["main-smtp"]["containers"]
    }
    assert "credentials" not in mounts["smtp"] and "directory" in mounts["smtp"]
    assert mounts["auth"] == {"credentials", "auth", "tmp"}


def test_pods_are_given_all_files_of_their_sets_and_nothing_beside_them() -> None:
    volumes = {volume["name"]: volume for volume in pods(objects())["main-smtp"]["volumes"]}
    for mount, main in (("directory", "server.json"), ("credentials", "store.json")):
        sources = [source["secret"] for source in volumes[mount]["projected"]["sources"]]
        plan = Compiled(server()).plan
        files = (plan.directory if mount == "directory" else plan.credentials)[SERVER]
        assert {item["key"] for source in sources for item in source["items"]} == set(files) > {main}
        assert all(source["optional"] for source in sources)


def test_pods_leave_in_their_own_time_and_one_by_one() -> None:
    made = objects()
    found = {name: pod["terminationGracePeriodSeconds"] for name, pod in pods(made).items()}
    assert found == {"main-smtp": 120, "main-store": 60}
    for name in found:
        assert made["PodDisruptionBudget", name]["spec"]["maxUnavailable"] == 1


def test_what_leads_to_pods_and_guards_them_comes_before_them() -> None:
    kinds = [kind for kind, _ in objects(bulk={"replicas": 1}, portal={"replicas": 1})]
    workloads = [n for n, kind in enumerate(kinds) if kind in ("StatefulSet", "Deployment")]
    assert len(workloads) == 4 and workloads == list(range(len(kinds) - 4, len(kinds)))
