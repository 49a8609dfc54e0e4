"""Runs the workloads of a Plan as processes, as a kubelet and kube-proxy would for one machine.

The manifests are executed as they are. Three things stand in for what a machine without containers lacks:
a mount path in an argument or an environment value is replaced by the volume's folder; `PORT_<NAME>` by the
port of this machine; and the names of Services by RESOLVE_FILE (mailpods.directory.endpoints).
"""

import json
import os
import pwd
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mail_operator.local.files import make_folder, write_atomically
from mail_operator.local.ports import Ports, selects, service_ports
from mail_operator.local.processes import Process, end_leftovers, record
from mail_operator.local.volumes import Manifest, Objects, content, empty_folder, files_of, write_volume

WORKLOADS = ("StatefulSet", "Deployment")
# What a process inherits; everything else it needs stands in its manifest.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "DOVECOT")


@dataclass
class Container:
    """One container of a pod, as a process."""

    name: str
    process: Process
    admin: str | None  # URL of its admin port
    queue: str | None  # … and of the one at which its queue is asked about
    mounts: frozenset[str]  # names of its volumes

    @property
    def key(self) -> str:
        """Names this run of the container: another after each restart."""
        return f"{self.process.name}#{self.process.restarts}"


@dataclass
class Pod:
    """One pod: its folder, its containers, and the template it was started from."""

    name: str
    labels: Mapping[str, str]
    template: str  # canonical JSON; a difference means a restart
    volumes: dict[str, Path]
    containers: list[Container] = field(default_factory=list)
    leaving: bool = False


class Pods:
    """The pods of this machine. `apply()` what should run; `tick()` a few times a second."""

    def __init__(self, data: Path, ports: Ports, bind: str, user: str | None) -> None:
        self._data = data
        self._ports = ports
        self._bind = bind
        self._user = user
        self._owner = pwd.getpwnam(user).pw_uid if user else None
        self._pods: dict[str, Pod] = {}
        self._wanted: dict[str, tuple[Manifest, Manifest]] = {}  # pod name -> (workload, pod template)
        self._objects: Objects = {}
        self._services: list[Manifest] = []
        self._recorded: list[int] = []
        pids = make_folder(data / "run", mode=0o711) / "pids"
        if pids.exists():
            end_leftovers(pids.read_bytes())

    def apply(self, objects: Sequence[Manifest]) -> None:
        """Make what runs follow the objects of a Plan: files at once, changed pods by a graceful restart."""
        self._objects = {(o["kind"], o["metadata"]["name"]): o for o in objects}
        self._services = [o for o in objects if o["kind"] == "Service"]
        self._wanted = {
            f"{o['metadata']['name']}-{n}": (o, _ordinal_template(o, n))
            for o in objects
            if o["kind"] in WORKLOADS
            for n in range(o["spec"].get("replicas", 1))
        }
        for name, (_, template) in self._wanted.items():
            for container in template["spec"]["containers"]:
                for port in container.get("ports", ()):
                    self._ports.choose(name, port["name"], self._service_port(name, template, port["name"]))
        self._write_names()
        for pod in self._pods.values():
            wanted = self._wanted.get(pod.name)
            if wanted is None or _canonical(wanted[1]) != pod.template:
                self._leave(pod)
            else:
                self._write_files(pod, wanted[1])

    def _service_port(self, pod: str, template: Manifest, port: str) -> int | None:
        # The first pod stands for the Service; the others are reached by name alone.
        if not pod.endswith("-0"):
            return None
        return service_ports(self._services, template["metadata"]["labels"]).get(port)

    def _write_names(self) -> None:
        names: dict[str, str] = {}
        for name, (owner, template) in self._wanted.items():
            namespace = owner["metadata"]["namespace"]
            ports = [p for c in template["spec"]["containers"] for p in c.get("ports", ())]
            for port in ports:
                here = f"127.0.0.1:{self._ports.of(name, port['name'])}"
                if group := owner["spec"].get("serviceName"):  # the pods of a Deployment have no names
                    names[f"{name}.{group}.{namespace}.svc:{port['containerPort']}"] = here
                for service in self._services:
                    if name.endswith("-0") and selects(service, template["metadata"]["labels"]):
                        for exposed in service["spec"]["ports"]:
                            if exposed.get("targetPort") == port["name"]:
                                host = f"{service['metadata']['name']}.{namespace}.svc"
                                names[f"{host}:{exposed['port']}"] = here
        write_atomically(self._names_file, json.dumps(names, indent=1, sort_keys=True).encode(), 0o644)

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
        for name in self._wanted.keys() - self._pods.keys():
            self._pods[name] = self._make(name, *self._wanted[name])
            for container in self._pods[name].containers:
                container.process.tick()
        self._write_pids()

    def stop(self) -> None:
        """Ask everything to end; `tick()` until `running` is empty."""
        self._wanted = {}
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

    def _make(self, name: str, owner: Manifest, template: Manifest) -> Pod:
        pod = Pod(name, template["metadata"]["labels"], _canonical(template), {})
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
        ports = {p["name"]: self._ports.of(pod.name, p["name"]) for p in container.get("ports", ())}
        env: dict[str, str] = {}
        for variable in container.get("env", ()):
            env[variable["name"]] = _value(variable, pod, self._objects)
        env = {name: _local(value, paths) for name, value in env.items()}
        # What is this machine's own is no path of the container, even where it begins with one, e.g. /tmp.
        env = {name: os.environ[name] for name in _INHERITED if name in os.environ} | env
        here = {str(p["containerPort"]): str(ports[p["name"]]) for p in container.get("ports", ())}
        env |= {name: here.get(value, value) for name, value in env.items() if name.startswith("PORT_")}
        env |= {"BIND": self._bind, "RESOLVE_FILE": str(self._names_file), "RUNNER_PID": str(os.getpid())}
        command = [_local(_expand(a, env), paths) for a in _command(container)]
        if command[0].startswith("python"):
            command[0] = sys.executable
        if self._user:
            command += ["--user", self._user]
        probe = container.get("readinessProbe", {}).get("httpGet", {}).get("port")
        admin = ports.get(probe)
        queue = ports.get("queue")
        return Container(
            name=container["name"],
            process=Process(
                f"{pod.name}/{container['name']}",
                command,
                env,
                self._data / "logs" / f"{pod.name}-{container['name']}.log",
                template["spec"].get("terminationGracePeriodSeconds", 30),
            ),
            admin=f"http://{self._bind}:{admin}" if admin else None,
            queue=f"http://{self._bind}:{queue}" if queue else None,
            mounts=frozenset(m["name"] for m in container.get("volumeMounts", ())),
        )


def _ordinal_template(owner: Manifest, ordinal: int) -> Manifest:
    """The pod template with the label that the StatefulSet controller adds."""
    template = owner["spec"]["template"]
    labels = {**template["metadata"].get("labels", {}), "apps.kubernetes.io/pod-index": str(ordinal)}
    return {**template, "metadata": {**template["metadata"], "labels": labels}}


def _canonical(template: Manifest) -> str:
    return json.dumps(template, sort_keys=True)


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
