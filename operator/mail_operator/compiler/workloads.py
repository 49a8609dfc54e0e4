"""Builders of the pods of one installation: StatefulSets and their disruption budgets.

Each function is named after what it builds. Paths and ports here are those that the programs are told in
their arguments and environment; nothing else knows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mail_operator.kinds.mailserver import BulkPool, Exposure, Portal, Resources, Scheduling
from mail_operator.kinds.meta import ObjectRef
from mailpods.directory.guide import VARIABLE, Guide
from mailpods.directory.shards import SERVER_FILE, STORE_FILE, file_name

Manifest = dict[str, Any]

USER = 5000
LEAVING_SECONDS = 3
AUTH_SOCKET = "/auth/run/auth-client"

# Names of ports have 15 characters at most (RFC 6335 §5.1); -pp: with PROXY protocol.
SMTP_PORTS = {
    "smtp": 2525,
    "submission": 2587,
    "submissions": 2465,
    "smtp-pp": 3525,
    "submission-pp": 3587,
    "submissions-pp": 3465,
    "admin": 9100,
    "queue": 9102,  # apart from metrics and probes: a NetworkPolicy cannot tell paths from each other
}
BULK_PORTS = {
    "bulk": 4025,
    "bulk-submit": 4587,
    "bulk-submits": 1465,
    "unsubscribe": 8025,
    "admin": SMTP_PORTS["admin"],
    "queue": SMTP_PORTS["queue"],
}
PORTAL_PORTS = {"portal": 8080, "admin": SMTP_PORTS["admin"]}
PORTAL_SERVICE_PORT = 80  # behind an Ingress: never one of a node's own
# Port name -> the port that the world knows.
STANDARD_PORTS = {
    "bulk": 4025,
    "bulk-submit": 4587,
    "bulk-submits": 1465,
    "unsubscribe": 8025,
    "smtp": 25,
    "submission": 587,
    "submissions": 465,
    "imap": 143,
    "imaps": 993,
    "pop3": 110,
    "pop3s": 995,
    "sieve": 4190,
}
AUTH_PORTS = {"auth-admin": 9101}
STORE_PORTS = {
    "imap": 2143,
    "imaps": 2993,
    "pop3": 2110,
    "pop3s": 2995,
    "sieve": 4190,
    "imap-pp": 3143,
    "imaps-pp": 3993,
    "pop3-pp": 3110,
    "pop3s-pp": 3995,
    "lmtp": 2024,
    "quota": 2340,
    "admin": 9100,
}


@dataclass(frozen=True)
class Installation:
    """What the builders need to know of a MailServer. Sizes are Kubernetes quantities."""

    ref: ObjectRef
    hostname: str  # that users know
    image: str
    buckets: int
    smtp_replicas: int
    smtp_workers: int | None  # None: one for each core
    spool_size: str
    shards: int
    mail_size: str
    storage_class: str | None
    tls_secret: str
    key_secret: str
    exposure: Exposure
    scheduling: Scheduling
    smtp_resources: Resources
    store_resources: Resources
    bulk: BulkPool
    portal: Portal

    @property
    def name(self) -> str:
        """The MailServer's name, with which the names of all its objects begin."""
        return self.ref.name

    @property
    def namespace(self) -> str:
        """The namespace of all its objects."""
        return self.ref.namespace

    def labels(self, component: str | None = None) -> dict[str, str]:
        """The recommended labels of Kubernetes; with `component` they select its pods."""
        labels = {"app.kubernetes.io/name": "mailpods", "app.kubernetes.io/instance": self.name}
        return {**labels, "app.kubernetes.io/component": component} if component else labels

    def metadata(self, name: str, component: str | None = None) -> Manifest:
        """Metadata of an object of this installation. The owner reference is added when it is applied."""
        labels = {**self.labels(component), "app.kubernetes.io/managed-by": "mailpods"}
        return {"name": name, "namespace": self.namespace, "labels": labels}

    def bucket_secret(self, mount: str, bucket: int) -> str:
        """Name of the Secret of a bucket of `mount`, directory or credentials."""
        return f"{self.name}-{mount}-{bucket:03d}"

    def main_secret(self, mount: str) -> str:
        """Name of the Secret of `server.json` or `store.json`."""
        return f"{self.name}-{mount}"


def smtp_stateful_set(at: Installation) -> Manifest:
    """The pods that take and deliver mail, each with the authenticator that SMTP AUTH asks, and a spool."""
    workers = ["--workers", str(at.smtp_workers)] if at.smtp_workers else []
    return _mail_takers(at, "smtp", at.smtp_replicas, workers, SMTP_PORTS, at.smtp_resources)


def bulk_stateful_set(at: Installation) -> Manifest:
    """The pods of the same kind that take mass mailings alone, with spools of their own."""
    options = ["--workers", str(at.bulk.workers), "--pool", "bulk"]
    made = _mail_takers(at, "bulk", at.bulk.replicas, options, BULK_PORTS, at.bulk.resources)
    if at.bulk.node_selector:
        pod = made["spec"]["template"]["spec"]
        pod["nodeSelector"] = {**pod.get("nodeSelector", {}), **at.bulk.node_selector}
    return made


def _mail_takers(
    at: Installation,
    component: str,
    replicas: int,
    options: list[str],
    ports: Mapping[str, int],
    resources: Resources,
) -> Manifest:
    smtp = _container(
        at,
        "smtp",
        [
            *("mailpods.programs.smtp", "--directory", "/directory", "--buckets", str(at.buckets)),
            *("--spool", "/spool", "--auth-socket", AUTH_SOCKET, "--tls", "/tls"),
            *options,
        ],
        ports,
        {"directory": "/directory", "tls": "/tls", "spool": "/spool", "auth": "/auth", "tmp": "/tmp"},
        memory="128Mi",
        resources=resources,
    )
    # The pod that goes gives its queue to the others.
    pod_name = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    smtp["env"] += [pod_name, _installation_key(at)]
    auth = _container(
        at,
        "auth",
        [
            *("mailpods.store", "--role", "auth", "--credentials", "/credentials"),
            *("--buckets", str(at.buckets), "--state", "/auth"),
        ],
        AUTH_PORTS,
        {"credentials": "/credentials", "auth": "/auth", "tmp": "/tmp"},
        memory="64Mi",
    )
    volumes = [
        _bucket_volume(at, "directory"),
        _bucket_volume(at, "credentials"),
        {"name": "tls", "secret": {"secretName": at.tls_secret}},
        {"name": "auth", "emptyDir": {"medium": "Memory"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    # Two minutes: deliveries under way end, then the queue moves; what nobody takes stays on its volume.
    service = f"{at.name}-{component}-pods"
    return _stateful_set(
        at, component, service, replicas, [smtp, auth], volumes, ("spool", at.spool_size), 120
    )


def store_stateful_set(at: Installation) -> Manifest:
    """The pods that keep mailboxes: one for each shard, each with its own volume."""
    store = _container(
        at,
        "store",
        [
            *("mailpods.store", "--role", "store", "--credentials", "/credentials"),
            *("--buckets", str(at.buckets), "--state", "/state", "--mail", "/mail", "--tls", "/tls"),
            *("--shard", "$(SHARD)"),
        ],
        STORE_PORTS,
        {"credentials": "/credentials", "tls": "/tls", "state": "/state", "mail": "/mail", "tmp": "/tmp"},
        memory="256Mi",
        resources=at.store_resources,
    )
    index = {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}
    store["env"] += [{"name": "SHARD", "valueFrom": index}, _installation_key(at)]
    volumes = [
        _bucket_volume(at, "credentials"),
        {"name": "tls", "secret": {"secretName": at.tls_secret}},
        {"name": "state", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
    ]
    return _stateful_set(
        at, "store", f"{at.name}-store-shards", at.shards, [store], volumes, ("mail", at.mail_size), 60
    )


def portal_stateful_set(at: Installation, guide: Guide) -> Manifest:
    """The pods with pages for everybody. They are given nothing that is a secret."""
    portal = _container(
        at,
        "portal",
        ["mailpods.portal", "--ca", "/ca/ca.crt"],
        PORTAL_PORTS,
        {"ca": "/ca", "tmp": "/tmp"},
        memory="32Mi",
        resources=at.portal.resources,
    )
    portal["env"].append({"name": VARIABLE, "value": guide.encode()})
    certificate = {
        "secretName": at.tls_secret,
        "optional": True,
        "items": [{"key": "ca.crt", "path": "ca.crt"}],
    }
    volumes = [{"name": "ca", "secret": certificate}, {"name": "tmp", "emptyDir": {}}]
    service = f"{at.name}-portal"
    return _stateful_set(at, "portal", service, at.portal.replicas, [portal], volumes, None, 30)


def disruption_budget(at: Installation, component: str) -> Manifest:
    """At most one pod of a component is taken away at a time, as when nodes are drained."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": at.metadata(f"{at.name}-{component}", component),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": at.labels(component)}},
    }


def _container(
    at: Installation,
    name: str,
    arguments: list[str],
    ports: Mapping[str, int],
    mounts: Mapping[str, str],
    memory: str,
    resources: Resources = Resources(),  # noqa: B008 - it is frozen
) -> Manifest:
    prefix = "auth-" if name == "auth" else ""  # names of ports are unique in a pod, variables in a container
    env: list[Manifest] = [
        {"name": "PORT_" + port.removeprefix(prefix).upper().replace("-", "_"), "value": str(number)}
        for port, number in ports.items()
    ]
    read_only = {"directory", "credentials", "tls", "ca"}
    admin = f"{prefix}admin"
    return {
        "name": name,
        "image": at.image,
        "command": ["python", "-m", *arguments],
        "env": env,
        "ports": [
            {
                "name": port,
                "containerPort": number,
                **(
                    {"hostPort": STANDARD_PORTS[port]}
                    if at.exposure.host_ports and port in STANDARD_PORTS
                    else {}
                ),
            }
            for port, number in ports.items()
        ],
        "volumeMounts": [
            {"name": volume, "mountPath": path, **({"readOnly": True} if volume in read_only else {})}
            for volume, path in mounts.items()
        ],
        # Nodes learn a moment late that a pod leaves: what they still send finds it at work.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(LEAVING_SECONDS)]}}},
        "livenessProbe": {"httpGet": {"path": "/livez", "port": admin}, "periodSeconds": 10},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": admin}, "periodSeconds": 5},
        "startupProbe": {
            "httpGet": {"path": "/livez", "port": admin},
            "periodSeconds": 2,
            "failureThreshold": 60,  # recovering a large spool takes its time
        },
        "resources": {
            "requests": {"cpu": "50m", "memory": memory, **resources.requests},
            **({"limits": dict(resources.limits)} if resources.limits else {}),
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _installation_key(at: Installation) -> Manifest:
    """By which the pods of an installation know each other."""
    reference = {"name": at.key_secret, "key": "key"}
    return {"name": "INSTALLATION_KEY", "valueFrom": {"secretKeyRef": reference}}


def _bucket_volume(at: Installation, mount: str) -> Manifest:
    """The Secrets of a mount as one folder. They are optional: pods start before they are written."""
    files = {at.bucket_secret(mount, bucket): file_name(bucket) for bucket in range(at.buckets)}
    files[at.main_secret(mount)] = {"directory": SERVER_FILE, "credentials": STORE_FILE}[mount]
    sources = [
        {"secret": {"name": name, "optional": True, "items": [{"key": file, "path": file}]}}
        for name, file in files.items()
    ]
    return {"name": mount, "projected": {"sources": sources}}


def _scheduling(at: Installation, component: str) -> Manifest:
    wanted = at.scheduling
    spread = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": at.labels(component)},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    tolerations = [t.model_dump(by_alias=True, exclude_none=True) for t in wanted.tolerations]
    return {
        "topologySpreadConstraints": spread,
        **({"priorityClassName": wanted.priority_class_name} if wanted.priority_class_name else {}),
        **({"nodeSelector": dict(wanted.node_selector)} if wanted.node_selector else {}),
        **({"tolerations": tolerations} if tolerations else {}),
    }


def _stateful_set(
    at: Installation,
    component: str,
    service: str,
    replicas: int,
    containers: list[Manifest],
    volumes: list[Manifest],
    claim: tuple[str, str] | None,
    grace_seconds: int,
) -> Manifest:
    """`claim`: name and size of the volume that each pod has of its own."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": at.metadata(f"{at.name}-{component}", component),
        "spec": {
            "replicas": replicas,
            "serviceName": service,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": at.labels(component)},
            "template": {
                "metadata": {"labels": at.labels(component)},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": grace_seconds,
                    **_scheduling(at, component),
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": USER,
                        "runAsGroup": USER,
                        "fsGroup": USER,
                        "fsGroupChangePolicy": "OnRootMismatch",  # large Maildirs are not walked
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": containers,
                    "volumes": volumes,
                },
            },
            **(_claims(at, *claim) if claim else {}),
        },
    }


def _claims(at: Installation, name: str, size: str) -> Manifest:
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
        **({"storageClassName": at.storage_class} if at.storage_class else {}),
    }
    return {
        # Volumes outlive everything: deleting an installation by mistake loses no mail.
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "volumeClaimTemplates": [{"metadata": {"name": name}, "spec": spec}],
    }
