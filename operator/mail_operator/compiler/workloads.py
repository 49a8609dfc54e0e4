"""Builders of what runs a component's pods: a StatefulSet or a Deployment, and its disruption budget.

Mount paths and ports here are those that the programs are told in their arguments and environment.
"""

from mail_operator.components.component import Component, Container, Port, Volume
from mail_operator.components.installation import Installation, Manifest
from mail_operator.kinds.pods import PodVolume
from mailpods.directory.shards import SERVER_FILE, STORE_FILE, file_name

USER = 5000
LEAVING_SECONDS = 3
_MAIN_FILE = {"directory": SERVER_FILE, "credentials": STORE_FILE}


def workload(at: Installation, component: Component) -> Manifest:
    """Runs the pods."""
    return {
        "apiVersion": "apps/v1",
        "kind": component.workload,
        "metadata": at.metadata(f"{at.name}-{component.name}", component.name),
        "spec": {
            "replicas": component.replicas(at),
            "selector": {"matchLabels": at.labels(component.name)},
            "template": _template(at, component),
            **(_stateful(at, component) if component.workload == "StatefulSet" else {}),
        },
    }


def disruption_budget(at: Installation, component: Component) -> Manifest:
    """At most one pod of a component is taken away at a time, as when nodes are drained."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": at.metadata(f"{at.name}-{component.name}", component.name),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",  # one that does not work keeps no node from its end
            "selector": {"matchLabels": at.labels(component.name)},
        },
    }


def _template(at: Installation, component: Component) -> Manifest:
    added = at.spec.pods
    pull_secrets = [{"name": secret.name} for secret in added.image_pull_secrets]
    return {
        "metadata": {
            "labels": {**added.labels, **at.labels(component.name)},
            **({"annotations": dict(added.annotations)} if added.annotations else {}),
        },
        "spec": {
            **({"imagePullSecrets": pull_secrets} if pull_secrets else {}),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": component.grace_seconds,
            **_scheduling(at, component),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",  # large Maildirs are not walked
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(at, component, container) for container in component.containers],
            "volumes": [
                *(_volume(at, each) for each in component.volumes if each.kind != "claim"),
                *(_added_volume(each) for each in added.volumes),
            ],
        },
    }


def _container(at: Installation, component: Component, container: Container) -> Manifest:
    ports = list(container.opened(at))
    env: list[Manifest] = [{"name": port.environment, "value": str(port.number)} for port in ports]
    env += [{"name": name, "value": value} for name, value in container.env(at).items()]
    env += [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in container.fields.items()
    ]
    if container.holds_key:
        key = {"name": at.key_secret, "key": "key"}
        env.append({"name": "INSTALLATION_KEY", "valueFrom": {"secretKeyRef": key}})
    added, own = at.spec.pods, {variable["name"] for variable in env}
    env += [{"name": each.name, "value": each.value} for each in added.env if each.name not in own]
    resources, alive = container.resources(at), {"httpGet": {"path": "/livez", "port": container.admin}}
    return {
        "name": container.name,
        "image": container.image(at),
        **({"imagePullPolicy": added.image_pull_policy} if added.image_pull_policy else {}),
        "command": ["python", "-m", *container.command(at)],
        "env": env,
        "ports": [_container_port(at, component, port) for port in ports],
        "volumeMounts": [
            *(
                {
                    "name": each.name,
                    "mountPath": f"/{each.name}",
                    **({"readOnly": True} if each.read_only else {}),
                }
                for each in container.mounts
            ),
            *(
                {"name": _added_name(each), "mountPath": each.mount_path, "readOnly": True}
                for each in added.volumes
            ),
        ],
        # Nodes learn a moment late that a pod leaves: what they still send finds it at work.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(LEAVING_SECONDS)]}}},
        "livenessProbe": {**alive, "periodSeconds": 10, "timeoutSeconds": 5},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": container.admin}, "periodSeconds": 5},
        # Recovering a large spool takes its time.
        "startupProbe": {**alive, "periodSeconds": 2, "failureThreshold": 60},
        "resources": {
            "requests": {"cpu": "50m", "memory": container.memory, **resources.requests},
            **({"limits": dict(resources.limits)} if resources.limits else {}),
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _container_port(at: Installation, component: Component, port: Port) -> Manifest:
    on_node = at.spec.service.host_ports and component.exposed and port.public
    return {"name": port.name, "containerPort": port.number, **({"hostPort": port.public} if on_node else {})}


def _volume(at: Installation, volume: Volume) -> Manifest:
    match volume.kind:
        case "files":
            return {"name": volume.name, "projected": {"sources": list(_file_sources(at, volume.name))}}
        case "certificate":
            return {"name": volume.name, "secret": {"secretName": at.tls_secret}}
        case "authority":
            items = [{"key": "ca.crt", "path": "ca.crt"}]
            return {
                "name": volume.name,
                "secret": {"secretName": at.tls_secret, "optional": True, "items": items},
            }
    medium = {"medium": "Memory"} if volume.kind == "memory" else {}
    return {"name": volume.name, "emptyDir": {**medium, "sizeLimit": volume.size}}


def _added_volume(volume: PodVolume) -> Manifest:
    """Optional: a missing object is the owner's to notice, and no reason for all pods to stand still."""
    if volume.secret:
        source: Manifest = {"secret": {"secretName": volume.secret.name, "optional": True}}
    else:
        assert volume.config_map
        source = {"configMap": {"name": volume.config_map.name, "optional": True}}
    return {"name": _added_name(volume), **source}


def _added_name(volume: PodVolume) -> str:
    return f"added-{volume.name}"


def _file_sources(at: Installation, mount: str) -> list[Manifest]:
    """The Secrets of a set of files. They are optional: pods start before they are written."""
    files = {at.bucket_secret(mount, bucket): file_name(bucket) for bucket in range(at.buckets)}
    files[at.main_secret(mount)] = _MAIN_FILE[mount]
    return [
        {"secret": {"name": name, "optional": True, "items": [{"key": file, "path": file}]}}
        for name, file in files.items()
    ]


def _scheduling(at: Installation, component: Component) -> Manifest:
    wanted = at.spec.scheduling
    spread = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": at.labels(component.name)},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    tolerations = [t.model_dump(by_alias=True, exclude_none=True) for t in wanted.tolerations]
    node_selector = {**wanted.node_selector, **component.node_selector(at)}
    return {
        "topologySpreadConstraints": spread,
        **({"priorityClassName": wanted.priority_class_name} if wanted.priority_class_name else {}),
        **({"nodeSelector": node_selector} if node_selector else {}),
        **({"tolerations": tolerations} if tolerations else {}),
    }


def _stateful(at: Installation, component: Component) -> Manifest:
    return {
        "serviceName": f"{at.name}-{component.name}-{component.pods_service}",
        "podManagementPolicy": "Parallel",
        # Volumes outlive everything: deleting an installation by mistake loses no mail.
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "volumeClaimTemplates": [_claim(at, volume) for volume in component.claims],
    }


def _claim(at: Installation, volume: Volume) -> Manifest:
    assert volume.claimed is not None
    storage_class = at.spec.storage.class_name
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": volume.claimed(at)}},
        **({"storageClassName": storage_class} if storage_class else {}),
    }
    return {"metadata": {"name": volume.name}, "spec": spec}
