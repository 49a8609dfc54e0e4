"""A Plan's StatefulSets run as processes: with their files, ports and names, and restarted when they die."""

import base64
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mail_operator.compiler.plan import wire
from mail_operator.local.asking import ask_json
from mail_operator.local.pods import Pods
from mail_operator.local.ports import Ports, PortTaken

from mailpods.directory.shards import content_hash
from tests.support.compiling import SERVER, Compiled, server
from tests.support.helm import ROOT
from tests.support.toy import TOY

# Serves its Secret, its environment and its process id over HTTP.
PROGRAM = """
import json, os, sys, time
from mailpods.admin.server import AdminServer, Response
def answer(_):
    names = json.load(open(os.environ["RESOLVE_FILE"]))
    secret = open(sys.argv[1].removeprefix("--config=") + "/word").read()
    told = {"word": secret, "names": names, "pid": os.getpid(), "pod": sys.argv[2]}
    return Response.json({**told, "web": os.environ.get("PORT_WEB")})
servers = [AdminServer(os.environ["BIND"], os.environ["PORT_ADMIN"], {"GET /": answer})]
if web := os.environ.get("PORT_WEB"):
    servers.append(AdminServer(os.environ["BIND"], web, {"GET /": answer}))
for server in servers:
    server.start()
time.sleep(1000)
"""


def a_plan(word: str, image: str = "one") -> list[dict[str, Any]]:
    container = {
        "name": "web",
        "image": image,
        "command": ["python", "-c", PROGRAM],
        "args": ["--config=/etc/web", "$(POD)"],
        "env": [
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "PORT_ADMIN", "value": "9100"},
            {"name": "PORT_WEB", "value": "9000"},
        ],
        "ports": [{"name": "admin", "containerPort": 9100}, {"name": "web", "containerPort": 9000}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/web"}],
    }
    sources = [{"secret": {"name": "words"}}, {"secret": {"name": "absent", "optional": True}}]
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "containers": [container],
            "volumes": [{"name": "config", "projected": {"sources": sources}}],
            "terminationGracePeriodSeconds": 5,
        },
    }
    meta = {"namespace": "mail"}
    return [
        {
            "kind": "Secret",
            "metadata": {"name": "words", **meta},
            "data": {"word": base64.b64encode(word.encode()).decode()},
        },
        {
            "kind": "Service",
            "metadata": {"name": "front", **meta},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]},
        },
        {
            "kind": "StatefulSet",
            "metadata": {"name": "web", **meta},
            "spec": {"serviceName": "webs", "replicas": 2, "template": template},
        },
    ]


class Machine:
    def __init__(self, folder: Path) -> None:
        self.ports = Ports("127.0.0.1", None)
        self.pods = Pods(folder, self.ports, None)

    def until(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            self.pods.tick()
            try:
                if value := condition():
                    return value
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError("not within 30 s")

    def ask(self, pod: str = "web-0") -> Any:
        containers = [c for p in self.pods.running if p.name == pod for c in p.containers]
        endpoint = next((c.admin for c in containers if c.admin and c.name == "web"), "")
        if not endpoint:
            raise ConnectionError(f"{pod} does not run")
        return ask_json(str(endpoint), "/", seconds=5)

    def stop(self) -> None:
        self.pods.stop()
        self.until(lambda: not self.pods.running)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.stop()


def test_pods_run_with_their_files_ports_and_names(machine: Machine, tmp_path: Path) -> None:
    machine.pods.apply(a_plan("first"))
    answer = machine.until(machine.ask)
    assert answer["word"] == "first" and answer["pod"] == "web-0"
    assert machine.until(lambda: machine.ask("web-1"))["pod"] == "web-1"
    here = f"127.0.0.1:{machine.ports.offered()['web']}"
    assert answer["names"]["front.mail.svc:80"] == answer["names"]["web-0.webs.mail.svc:9000"] == here
    inner = machine.until(lambda: machine.ask("web-1"))
    assert inner["web"] is None and "web-1.webs.mail.svc:9000" not in inner["names"], "one is the Service"
    assert inner["names"]["web-1.webs.mail.svc:9100"] == f"unix:{tmp_path}/run/sockets/web-1.admin"


def test_only_the_programs_see_where_they_find_each_other(machine: Machine, tmp_path: Path) -> None:
    machine.pods.apply(a_plan("first"))
    machine.until(machine.ask)
    assert (tmp_path / "run" / "resolve.json").stat().st_mode & 0o077 == 0
    assert (tmp_path / "run" / "sockets").stat().st_mode & 0o077 == 0


def test_metrics_of_all_programs_are_found_at_one_port(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    machine.pods.apply([wire(each) for each in Compiled(server(), components=(TOY,)).plan.objects])
    at = f"http://127.0.0.1:{machine.ports.offered()['metrics']}"
    (found,) = machine.until(lambda: json.load(urllib.request.urlopen(f"{at}/targets", timeout=5)))
    assert found == {
        "targets": [at.removeprefix("http://")],
        "labels": {
            "__metrics_path__": "/metrics/main-toy-0/toy",
            "job": "mailpods",
            "namespace": "default",
            "pod": "main-toy-0",
            "container": "toy",
        },
    }
    url = at + found["labels"]["__metrics_path__"]
    assert machine.until(lambda: urllib.request.urlopen(url, timeout=5).status) == 200
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{at}/queue", timeout=5)


def test_a_changed_secret_is_seen_without_a_restart_and_a_changed_template_with_one(machine: Machine) -> None:
    machine.pods.apply(a_plan("first"))
    before = machine.until(machine.ask)
    machine.pods.apply(a_plan("second"))
    after = machine.until(machine.ask)
    assert after["word"] == "second" and after["pid"] == before["pid"]

    machine.pods.apply(a_plan("second", image="two"))
    machine.until(lambda: machine.ask()["pid"] != before["pid"])


def test_a_declared_component_runs_and_says_what_it_has_loaded(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    plan = Compiled(server(), components=(TOY,)).plan
    machine.pods.apply([wire(each) for each in plan.objects])
    expected = {name: content_hash(data) for name, data in plan.directory[SERVER].items()}

    def loaded() -> set[str]:
        """The pods that have all files of the plan."""
        containers = [(pod.name, c) for pod in machine.pods.running for c in pod.containers]
        asked = {pod: str(c.admin) for pod, c in containers if "directory" in c.mounts}
        answers = {pod: ask_json(endpoint, "/directory") for pod, endpoint in asked.items()}
        return {pod for pod, answer in answers.items() if answer["hashes"] == expected}

    machine.until(lambda: loaded() == {"main-toy-0"})
    assert machine.ports.offered().keys() == {"toy", "metrics"}


def test_a_killed_process_comes_back(machine: Machine) -> None:
    machine.pods.apply(a_plan("first"))
    before = machine.until(machine.ask)
    os.kill(before["pid"], signal.SIGKILL)
    machine.until(lambda: machine.ask()["pid"] != before["pid"])


def test_what_outlived_a_killed_runner_is_ended_by_the_next(machine: Machine, tmp_path: Path) -> None:
    machine.pods.apply(a_plan("first"))
    pid = machine.until(machine.ask)["pid"]
    assert Path(f"/proc/{pid}").exists()
    Pods(tmp_path, Ports("127.0.0.1", None), None)
    machine.until(lambda: machine.ask()["pid"] != pid)


def test_a_taken_port_is_named_with_its_remedy(machine: Machine) -> None:
    machine.pods.apply(a_plan("first"))
    machine.until(machine.ask)
    port = machine.ports.offered()["web"]
    with pytest.raises(PortTaken, match=rf"port {port} .* --port-offset"):
        Ports("127.0.0.1", port - 80).offer("web-0", "web", 80, False)


def test_a_pod_that_cannot_be_started_keeps_no_other_waiting(machine: Machine, tmp_path: Path) -> None:
    obstacle = tmp_path / "run" / "pods" / "web-0"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("no folder")
    machine.pods.apply(a_plan("first"))
    assert machine.until(lambda: machine.ask("web-1"))["pod"] == "web-1"
    assert list(machine.pods.troubles) == ["web-0"]
    assert str(obstacle) in machine.pods.troubles["web-0"]
    obstacle.unlink()
    assert machine.until(machine.ask)["pod"] == "web-0"
    assert not machine.pods.troubles


def test_a_program_that_is_not_there_is_named_and_keeps_no_other_waiting(machine: Machine) -> None:
    objects = a_plan("first")
    (container,) = objects[2]["spec"]["template"]["spec"]["containers"]
    objects[2]["spec"]["template"]["spec"]["containers"] = [
        {"name": "absent", "image": "one", "command": ["/no/such/program"]},
        container,
    ]
    machine.pods.apply(objects)
    assert machine.until(machine.ask)["pod"] == "web-0"
    absent = machine.pods.running[0].containers[0].process
    machine.until(lambda: absent.restarts > 1)
    assert absent.trouble.startswith("absent restarted ") and "/no/such/program" in absent.trouble
