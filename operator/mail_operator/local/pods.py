"""Runs the workloads of a Plan as processes, as a kubelet and kube-proxy would for one machine.

The manifests are executed as they are. Three things stand in for what a machine without containers lacks:
a mount path in an argument or an environment value is replaced by the volume's folder; `PORT_<NAME>` by the
port or socket of this machine (listening.py); and the names of Services by RESOLVE_FILE, which the pods alone
may read (mailpods.directory.endpoints).
"""

import json
import os
import pwd
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mail_operator.local.files import make_folder, write_atomically
from mail_operator.local.listening import Listening, listening, proxies
from mail_operator.local.metrics import MetricsPort
from mail_operator.local.ports import Ports, selects
from mail_operator.local.processes import Process, end_leftovers, record
from mail_operator.local.volumes import Manifest, Objects, content, empty_folder, files_of, write_volume

METRICS = 9100  # the port of all metrics of this machine
WORKLOADS = ("StatefulSet", "Deployment")
_RETRY_SECONDS = 1.0  # until a pod that could not be started is tried again
# What a process inherits; everything else it needs stands in its manifest.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "DOVECOT")


@dataclass
class Container:
    """One container of a pod, as a process."""

    name: str
    process: Process
    admin: str | None  # where its admin port is: host:port, or unix:PATH
    queue: str | None  # … and the one at which its queue is asked about
    mounts: frozenset[str]  # names of its volumes

    @property
    def key(self) -> str:
        """Names this run of the container: another after each restart."""
        return f"{self.process.name}#{self.process.restarts}"


@dataclass
class Pod:
    """One pod: its folder, its containers, and the template it was started from."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    template: str  # canonical, with where it listens; a difference means a restart
    volumes: dict[str, Path]
    containers: list[Container] = field(default_factory=list)
    leaving: bool = False


class Pods:
    """The pods of this machine. `apply()` what should run; `tick()` a few times a second."""

    def __init__(self, data: Path, ports: Ports, user: str | None) -> None:
        self._data = data
        self._ports = ports
        self._user = user
        self._owner = pwd.getpwnam(user).pw_uid if user else None
        self._pods: dict[str, Pod] = {}
        self._wanted: dict[str, tuple[Manifest, Manifest]] = {}  # pod name -> (workload, pod template)
        self._objects: Objects = {}
        self._services: list[Manifest] = []
        self._listening: dict[str, tuple[str, dict[str, Listening]]] = {}  # pod name -> addresses, ports
        self._proxies: dict[str, str] = {}  # pod name -> networks that tell it clients' addresses
        self._metrics: MetricsPort | None = None
        self._recorded: list[int] = []
        self.troubles: dict[str, str] = {}  # pod name -> why it cannot be started
        self._again: dict[str, float] = {}  # … and when that is tried again
        pids = make_folder(data / "run", mode=0o711) / "pids"
        self._sockets = make_folder(data / "run" / "sockets", self._owner)
        if pids.exists():
            end_leftovers(pids.read_bytes())

    def apply(self, objects: Sequence[Manifest]) -> None:
        """Make what runs follow the objects of a Plan: files at once, changed pods by a graceful restart.

        Raises PortTaken, with nothing changed.
        """
        services = [o for o in objects if o["kind"] == "Service"]
        wanted = {
            f"{o['metadata']['name']}-{n}": (o, _ordinal_template(o, n))
            for o in objects
            if o["kind"] in WORKLOADS
            for n in range(replicas(o))
        }
        self._ports.withdraw()
        places = {
            name: listening(name, owner, services, self._ports, self._sockets)
            for name, (owner, _) in wanted.items()
        }
        self._objects = {(o["kind"], o["metadata"]["name"]): o for o in objects}
        self._services, self._wanted, self._listening = services, wanted, places
        policies = [o for o in objects if o["kind"] == "NetworkPolicy"]
        self._proxies = {name: proxies(owner, policies) for name, (owner, _) in wanted.items()}
        place = self._ports.metrics(METRICS)
        self._metrics = self._metrics or MetricsPort(*place, self._with_metrics)
        self._write_names()
        for pod in self._pods.values():
            now = wanted.get(pod.name)
            if now is None or self._canonical(pod.name, now[1]) != pod.template:
                self._leave(pod)
            else:
                self._write_files(pod, now[1])

    def _with_metrics(self) -> dict[str, tuple[str, Mapping[str, str]]]:
        """Container -> its admin port, and the labels of its metrics, as the chart's PodMonitor has them."""
        found: dict[str, tuple[str, Mapping[str, str]]] = {}
        for pod in self.running:
            job = {"job": pod.labels.get("app.kubernetes.io/name", ""), "namespace": pod.namespace}
            found |= {c.process.name: (c.admin, job) for c in pod.containers if c.admin}
        return found

    def _write_names(self) -> None:
        names: dict[str, str] = {}
        for name, (owner, template) in self._wanted.items():
            namespace = owner["metadata"]["namespace"]
            ports = [p for c in template["spec"]["containers"] for p in c.get("ports", ())]
            for port in ports:
                if not (found := self._listening[name][1].get(port["name"])):
                    continue
                here = found.endpoint
                if group := owner["spec"].get("serviceName"):  # the pods of a Deployment have no names
                    names[f"{name}.{group}.{namespace}.svc:{port['containerPort']}"] = here
                for service in self._services:
                    if name.endswith("-0") and selects(service, template["metadata"]["labels"]):
                        for exposed in service["spec"]["ports"]:
                            if exposed.get("targetPort") == port["name"]:
                                host = f"{service['metadata']['name']}.{namespace}.svc"
                                names[f"{host}:{exposed['port']}"] = here
        write_atomically(
            self._names_file, json.dumps(names, indent=1, sort_keys=True).encode(), owner=self._owner
        )

    @property
    def _names_file(self) -> Path:
        return self._data / "run" / "resolve.json"

    def tick(self) -> None:
        """Start what is due, restart what ended, and let go of what has left."""
        for pod in list(self._pods.values()):
            if pod.leaving:
                if all([c.process.ended() for c in pod.containers]):
                    del self._pods[pod.name]
            else:
                for container in pod.containers:
                    container.process.tick()
        now = time.monotonic()
        for name in sorted(self._wanted.keys() - self._pods.keys()):
            if now >= self._again.get(name, 0.0):
                self._start(name, now)
        for name in self._again.keys() - self._wanted.keys():
            del self._again[name]
            self.troubles.pop(name, None)
        self._write_pids()

    def _start(self, name: str, now: float) -> None:
        """Start a pod. What is in its way is its own: the others do not wait for it."""
        try:
            pod = self._make(name, *self._wanted[name])
        except Exception as error:  # a folder or file that cannot be written, a Secret that is not there
            self.troubles[name] = f"cannot be started: {error}" if str(error) else repr(error)
            self._again[name] = now + _RETRY_SECONDS
            return
        self.troubles.pop(name, None)
        self._pods[name] = pod
        for container in pod.containers:
            container.process.tick()

    def labels(self, name: str) -> Mapping[str, str]:
        """Of a pod that should run. Raises KeyError."""
        labels: Mapping[str, str] = self._wanted[name][1]["metadata"]["labels"]
        return labels

    def stop(self) -> None:
        """Ask everything to end; `tick()` until `running` is empty."""
        self._wanted = {}
        if self._metrics:
            self._metrics.close()
            self._metrics = None
        for pod in self._pods.values():
            self._leave(pod)

    def _leave(self, pod: Pod) -> None:
        pod.leaving = True
        for container in pod.containers:
            container.process.terminate()

    @property
    def running(self) -> list[Pod]:
        """All pods, those on their way out included."""
        return list(self._pods.values())

    def _write_pids(self) -> None:
        pids = [c.process.pid for pod in self._pods.values() for c in pod.containers if c.process.pid]
        if pids != self._recorded:
            write_atomically(self._data / "run" / "pids", record(pids))
            self._recorded = pids

    def _canonical(self, name: str, template: Manifest) -> str:
        return json.dumps(template, sort_keys=True) + repr((self._listening[name], self._proxies[name]))

    def _make(self, name: str, owner: Manifest, template: Manifest) -> Pod:
        namespace, labels = owner["metadata"]["namespace"], template["metadata"]["labels"]
        pod = Pod(name, namespace, labels, self._canonical(name, template), {})
        folder = self._data / "run" / "pods" / name
        claims = {c["metadata"]["name"] for c in owner["spec"].get("volumeClaimTemplates", ())}
        for claim in claims:
            pod.volumes[claim] = make_folder(self._data / "volumes" / f"{claim}-{name}", self._owner)
        for volume in template["spec"].get("volumes", ()):
            path = folder / volume["name"]
            pod.volumes[volume["name"]] = path
            if "emptyDir" in volume:
                empty_folder(path, self._owner)
        self._write_files(pod, template)
        for container in template["spec"]["containers"]:
            pod.containers.append(self._container(pod, template, container))
        return pod

    def _write_files(self, pod: Pod, template: Manifest) -> None:
        for volume in template["spec"].get("volumes", ()):
            files = files_of(volume, self._objects)
            if files is not None:
                write_volume(pod.volumes[volume["name"]], files, self._owner)

    def _container(self, pod: Pod, template: Manifest, container: Manifest) -> Container:
        paths = {m["mountPath"]: str(pod.volumes[m["name"]]) for m in container.get("volumeMounts", ())}
        bind, places = self._listening[pod.name]
        env: dict[str, str] = {}
        for variable in container.get("env", ()):
            env[variable["name"]] = _value(variable, pod, self._objects)
        env = {name: _local(value, paths) for name, value in env.items()}
        # What is this machine's own is no path of the container, even where it begins with one, e.g. /tmp.
        env = {name: os.environ[name] for name in _INHERITED if name in os.environ} | env
        here = {str(p["containerPort"]): places.get(p["name"]) for p in container.get("ports", ())}
        for name in [name for name in env if name.startswith("PORT_")]:
            value = env.pop(name)
            if found := here.get(value):  # what is closed here has no variable
                env[name] = found.value
        if allowed := self._proxies[pod.name]:
            env["PROXIES"] = allowed
        env |= {"BIND": bind, "RESOLVE_FILE": str(self._names_file), "RUNNER_PID": str(os.getpid())}
        command = [_local(_expand(a, env), paths) for a in _command(container)]
        if command[0].startswith("python"):
            command[0] = sys.executable
        if self._user:
            command += ["--user", self._user]
        probe = container.get("readinessProbe", {}).get("httpGet", {}).get("port")
        declared = {port["name"] for port in container.get("ports", ())}
        admin, queue = (places.get(name) for name in (probe, "queue" if "queue" in declared else ""))
        return Container(
            name=container["name"],
            process=Process(
                f"{pod.name}/{container['name']}",
                command,
                env,
                self._data / "logs" / f"{pod.name}-{container['name']}.log",
                template["spec"].get("terminationGracePeriodSeconds", 30),
            ),
            admin=admin.endpoint if admin else None,
            queue=queue.endpoint if queue else None,
            mounts=frozenset(m["name"] for m in container.get("volumeMounts", ())),
        )


def replicas(workload: Manifest) -> int:
    """Of pods without volumes and names one is enough here: nobody would reach another."""
    wanted: int = workload["spec"].get("replicas", 1)
    return min(wanted, 1) if workload["kind"] == "Deployment" else wanted


def _ordinal_template(owner: Manifest, ordinal: int) -> Manifest:
    """The pod template with the label that the StatefulSet controller adds."""
    template = owner["spec"]["template"]
    labels = {**template["metadata"].get("labels", {}), "apps.kubernetes.io/pod-index": str(ordinal)}
    return {**template, "metadata": {**template["metadata"], "labels": labels}}


def _command(container: Manifest) -> Iterator[str]:
    yield from container.get("command", ())
    yield from container.get("args", ())


def _value(variable: Manifest, pod: Pod, objects: Objects) -> str:
    """The value of an environment variable; of the other sources, those that mail pods use."""
    if "value" in variable:
        return str(variable["value"])
    if reference := variable["valueFrom"].get("secretKeyRef"):
        return content(objects["Secret", reference["name"]])[reference["key"]].decode()
    path: str = variable["valueFrom"]["fieldRef"]["fieldPath"]
    if path == "metadata.name":
        return pod.name
    label = path.removeprefix("metadata.labels['").removesuffix("']")
    return pod.labels[label]


def _expand(text: str, env: Mapping[str, str]) -> str:
    """Replace $(NAME), as Kubernetes does in arguments."""
    for name, value in env.items():
        text = text.replace(f"$({name})", value)
    return text


def _local(text: str, paths: Mapping[str, str]) -> str:
    """Replace the mount path that the text, or its part after '=', begins with."""
    option, separator, value = text.rpartition("=")
    for mount, folder in sorted(paths.items(), key=lambda item: -len(item[0])):
        if value == mount or value.startswith(mount + "/"):
            return option + separator + folder + value[len(mount) :]
    return text
