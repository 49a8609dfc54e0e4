"""A Plan's StatefulSets run as processes: with their files, ports and names, and restarted when they die."""

import base64
import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mail_operator.compiler.plan import wire
from mail_operator.local.pods import Pods
from mail_operator.local.ports import Ports, PortTaken

from mailpods.directory.shards import content_hash
from tests.support.compiling import SERVER, Compiled, server
from tests.support.helm import ROOT
from tests.support.toy import TOY

# Serves its Secret, its environment and its process id over HTTP.
PROGRAM = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        names = json.load(open(os.environ["RESOLVE_FILE"]))
        secret = open(sys.argv[1].removeprefix("--config=") + "/word").read()
        body = json.dumps({"word": secret, "names": names, "pid": os.getpid(), "pod": sys.argv[2]}).encode()
        self.send_response(200); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
http.server.HTTPServer((os.environ["BIND"], int(os.environ["PORT_ADMIN"])), Handler).serve_forever()
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
        ],
        "ports": [{"name": "admin", "containerPort": 9100}],
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
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "admin"}]},
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
        self.pods = Pods(folder, self.ports, "127.0.0.1", None)

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
        url = f"http://127.0.0.1:{self.ports.of(pod, 'admin')}/"
        return json.load(urllib.request.urlopen(url, timeout=5))

    def stop(self) -> None:
        self.pods.stop()
        self.until(lambda: not self.pods.running)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.stop()


def test_pods_run_with_their_files_ports_and_names(machine: Machine) -> None:
    machine.pods.apply(a_plan("first"))
    answer = machine.until(machine.ask)
    assert answer["word"] == "first" and answer["pod"] == "web-0"
    assert machine.until(lambda: machine.ask("web-1"))["pod"] == "web-1"
    here = f"127.0.0.1:{machine.ports.of('web-0', 'admin')}"
    assert answer["names"]["front.mail.svc:80"] == here
    assert answer["names"]["web-0.webs.mail.svc:9100"] == here
    assert answer["names"]["web-1.webs.mail.svc:9100"] != here


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
        urls = {pod: f"{c.admin}/directory" for pod, c in containers if "directory" in c.mounts}
        answers = {pod: json.load(urllib.request.urlopen(url, timeout=5)) for pod, url in urls.items()}
        return {pod for pod, answer in answers.items() if answer["hashes"] == expected}

    machine.until(lambda: loaded() == {"main-toy-0", "main-toy-1"})
    assert machine.ports.offered().keys() == {"toy"}


def test_a_killed_process_comes_back(machine: Machine) -> None:
    machine.pods.apply(a_plan("first"))
    before = machine.until(machine.ask)
    os.kill(before["pid"], signal.SIGKILL)
    machine.until(lambda: machine.ask()["pid"] != before["pid"])


def test_what_outlived_a_killed_runner_is_ended_by_the_next(machine: Machine, tmp_path: Path) -> None:
    machine.pods.apply(a_plan("first"))
    pid = machine.until(machine.ask)["pid"]
    assert Path(f"/proc/{pid}").exists()
    Pods(tmp_path, Ports("127.0.0.1", None), "127.0.0.1", None)
    machine.until(lambda: machine.ask()["pid"] != pid)


def test_a_taken_port_is_named_with_its_remedy(machine: Machine) -> None:
    machine.pods.apply(a_plan("first"))
    machine.until(machine.ask)
    port = machine.ports.of("web-0", "admin")
    with pytest.raises(PortTaken, match=rf"port {port} .* --port-offset"):
        Ports("127.0.0.1", port - 80).choose("web-0", "admin", 80)
