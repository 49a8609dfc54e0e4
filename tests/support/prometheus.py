"""A Prometheus of a test's own: on a free port, once a second, with the labels that a PodMonitor gives."""

import json
import math
import os
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.processes import free_port
from tests.support.helm import CHART
from tests.support.installation import HOST, wait

ALERTS, DASHBOARD = CHART / "files" / "alerts.yaml", CHART / "files" / "dashboard.json"
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Target:
    """One container's admin port, as Prometheus finds it in a cluster."""

    address: str  # host:port
    name: str  # of the pods' label app.kubernetes.io/name
    pod: str
    container: str
    port_name: str
    namespace: str = "t"
    path: str = "/metrics"

    def discovered(self) -> dict[str, Any]:
        """What discovery of the role `pod` finds."""
        meta = {
            "namespace": self.namespace,
            "pod_name": self.pod,
            "pod_container_name": self.container,
            "pod_container_port_name": self.port_name,
            "pod_label_app_kubernetes_io_name": self.name,
        }
        labels = {f"__meta_kubernetes_{name}": value for name, value in meta.items()}
        labels["__metrics_path__"] = self.path
        return {"targets": [self.address], "labels": labels}


# As the Prometheus Operator writes them for a PodMonitor with jobLabel app.kubernetes.io/name.
_RELABELLING = {
    "namespace": "namespace",
    "container": "pod_container_name",
    "pod": "pod_name",
    "job": "pod_label_app_kubernetes_io_name",
    "endpoint": "pod_container_port_name",
}


class Prometheus:
    """What a running one answers."""

    def __init__(self, port: int) -> None:
        self._url = f"http://{HOST}:{port}"

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer of the API. Raises OSError, also for an invalid query."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[tuple[Labels, float]]:
        """The series of an instant query."""
        found = self.ask("query", query=expression)
        assert found["resultType"] == "vector", expression
        return [(each["metric"], float(each["value"][1])) for each in found["result"]]

    def value(self, expression: str) -> float:
        """The value of the one series, not a number if there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else math.nan

    def is_ready(self) -> bool:
        """Whether it answers yet."""
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=1):
                return True
        except OSError:
            return False


@contextmanager
def prometheus(targets: list[Target]) -> Iterator[Prometheus]:
    """A running one with the chart's alerts; it and its data end with the context."""
    folder, port = Path(tempfile.mkdtemp(prefix="mp-prometheus-")), free_port()
    relabelling = [
        {"source_labels": [f"__meta_kubernetes_{meta}"], "target_label": label}
        for label, meta in _RELABELLING.items()
    ]
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {
                "job_name": "pods",
                "static_configs": [target.discovered() for target in targets],
                "relabel_configs": relabelling,
            }
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address={HOST}:{port}", "--log.level=warn"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
    running = Prometheus(port)
    try:
        wait(lambda: process.poll() is not None or running.is_ready(), 30)
        assert process.poll() is None, (folder / "log").read_text()
        yield running
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder)


def alerts() -> dict[str, dict[str, Any]]:
    """The chart's alerts by name."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def panels() -> dict[str, list[str]]:
    """Title of a panel of the dashboard -> its queries, with the dashboard's variables."""
    found = json.loads(DASHBOARD.read_text())["panels"]
    return {p["title"]: [target["expr"] for target in p["targets"]] for p in found if p["type"] != "row"}
