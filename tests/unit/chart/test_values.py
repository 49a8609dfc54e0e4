"""What each value of the chart does, and that none breaks it: null, empty, or given by a parent chart."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from mail_operator.compiler.snapshot import Snapshot
from mail_operator.kinds import KINDS
from mail_operator.kinds.meta import API_VERSION

from tests.support import helm
from tests.support.charting import Object, by_name, objects_of, rendered
from tests.support.helm import CHART, HelmError, sets, template

pytestmark = pytest.mark.skipif(
    helm.find() is None, reason="no helm: install Go, then run python -m tests.support.helm"
)

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
KNOWN = ["--api-versions", "mailpods.io/v1alpha1/MailServer", "--api-versions", "monitoring.coreos.com/v1"]
EVERYTHING = [
    "mailServer.enabled=true",
    "mailServer.spec.hostname=mail.example.org",
    "metrics.podMonitor.enabled=true",
    "monitoring.dashboards.enabled=true",
    "monitoring.rules.enabled=true",
]
DIGEST = "sha256:" + "0a" * 32


def _paths(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every value and every group of values: a.b, and its default."""
    for name, value in values.items():
        yield f"{before}{name}", value
        if isinstance(value, dict):
            yield from _paths(value, f"{before}{name}.")


PATHS = dict(_paths(VALUES))


def _pod(*values: str) -> Object:
    (deployment,) = by_name(rendered(*values), "Deployment").values()
    template: Object = deployment["spec"]["template"]
    return template


def _operator(*values: str) -> Object:
    (container,) = _pod(*values)["spec"]["containers"]
    found: Object = container
    return found


def _mail_image(*values: str) -> str:
    (image,) = (v["value"] for v in _operator(*values)["env"] if v["name"] == "MAIL_IMAGE")
    return str(image)


def test_the_images() -> None:
    assert _operator()["image"] == "mailpods-operator:0.1.0"
    assert _mail_image() == Snapshot().image
    other = "example.org/team/operator"
    assert _operator(f"image.repository={other}", "image.tag=test")["image"] == f"{other}:test"
    assert _mail_image("mail.image.repository=example.org/mail") == "example.org/mail:0.1.0"
    # A digest names the content; of a tag that nobody chose it need not be true.
    assert _operator(f"image.digest={DIGEST}")["image"] == f"mailpods-operator@{DIGEST}"
    assert _mail_image(f"mail.image.digest={DIGEST}", "mail.image.tag=v2") == f"mailpods:v2@{DIGEST}"


def test_pull_secrets_by_name_and_as_pods_have_them() -> None:
    said = _pod("imagePullSecrets[0]=one", "imagePullSecrets[1].name=two")["spec"]["imagePullSecrets"]
    assert said == [{"name": "one"}, {"name": "two"}]
    assert "imagePullSecrets" not in _pod()["spec"]


def test_what_is_added_to_the_operator_s_pod() -> None:
    pod = _pod(
        "extraEnv[0].name=HTTPS_PROXY",
        "extraEnv[0].value=http://proxy.example:3128",
        "extraVolumes[0].name=ca",
        "extraVolumes[0].configMap.name=our-ca",
        "extraVolumeMounts[0].name=ca",
        "extraVolumeMounts[0].mountPath=/etc/ssl/our",
        "podLabels.team=mail",
        r"podLabels.app\.kubernetes\.io/name=mailpods",
        "podAnnotations.a=b",
    )
    (container,) = pod["spec"]["containers"]
    assert {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"} in container["env"]
    assert {v["name"] for v in pod["spec"]["volumes"]} == {"tmp", "ca"}
    assert [m["mountPath"] for m in container["volumeMounts"]] == ["/tmp", "/etc/ssl/our"]
    assert pod["metadata"]["labels"]["team"] == "mail"
    # Never that of mail pods, which trust each other.
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "mailpods-operator"
    assert pod["metadata"]["annotations"] == {"a": "b"}


def test_common_labels_and_annotations_are_on_every_object_but_crds() -> None:
    objects = rendered(
        *EVERYTHING,
        "commonLabels.team=mail",
        r"commonLabels.app\.kubernetes\.io/instance=other",
        r"commonAnnotations.example\.org/cost=mail",
        "watchNamespaces={a}",
        arguments=KNOWN,
    )
    for found in objects:
        if found["kind"] != "CustomResourceDefinition":
            assert found["metadata"]["labels"]["team"] == "mail", found["kind"]
            assert found["metadata"]["labels"]["app.kubernetes.io/instance"] == "mailpods"
            assert found["metadata"]["annotations"]["example.org/cost"] == "mail", found["kind"]
    (server,) = by_name(objects, "MailServer").values()
    assert server["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_annotations_of_the_service_account() -> None:
    said = rendered(r"serviceAccount.annotations.example\.org/role=mail", "commonAnnotations.a=b")
    (account,) = by_name(said, "ServiceAccount").values()
    assert account["metadata"]["annotations"] == {"example.org/role": "mail", "a": "b"}


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        ("mailpods", [], "mailpods-operator"),
        ("east", [], "east-mailpods-operator"),
        ("mailpods", ["nameOverride=post"], "post"),
        ("east", ["nameOverride=post"], "east-post"),
        ("east", ["nameOverride=post", "fullnameOverride=mail-control"], "mail-control"),
        ("r" * 53, [], "r" * 53 + "-mailpods"),
    ],
)
def test_names(release: str, values: list[str], name: str) -> None:
    objects = objects_of(template(*sets(values), "--skip-tests", release=release))
    names = {
        o["kind"]: o["metadata"]["name"]
        for o in objects
        if not re.match("mail-", o["metadata"]["name"]) or o["kind"] == "Deployment"
    }
    wanted = {"Deployment", "ServiceAccount", "ClusterRoleBinding", "NetworkPolicy"}
    assert {found for kind, found in names.items() if kind in wanted} == {name}
    (deployment,) = by_name(objects, "Deployment").values()
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == name
    # Alerts and dashboard know it by these, whatever its objects are called.
    assert deployment["spec"]["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "mailpods-operator",
        "app.kubernetes.io/instance": release,
    }


def _voids(value: Any, path: str = "") -> Iterator[str]:
    """Where null stands."""
    if value is None:
        yield path
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _voids(each, f"{path}.{name}")
    elif isinstance(value, list):
        for each in value:
            yield from _voids(each, f"{path}[]")


def _whole(arguments: list[str]) -> None:
    """What is rendered holds no null."""
    objects = objects_of(template(*arguments, *KNOWN))
    assert len(objects) > 3
    for found in objects:
        if found["kind"] != "ConfigMap":
            assert not list(_voids(found)), found["kind"]


# The CRDs are large, and have tests of their own.
NEEDED = {"image.repository", "mail.image.repository"}
MOST = ["crds.enabled=false", *EVERYTHING]


@pytest.mark.parametrize("path", PATHS)
def test_null_is_understood_or_refused(path: str) -> None:
    on = [value for value in MOST if not re.match(rf"{path}[.=]", value)]
    try:
        _whole([*sets(on), "--set-json", f"{path}=null"])
    except HelmError as error:
        assert "at '" in str(error), error


def test_empty_values_are_understood_all_at_once() -> None:
    void = {
        path: type(default)()
        for path, default in PATHS.items()
        if isinstance(default, str | list) or default == {}
        if path not in NEEDED | {"mailServer.name", "mailServer.spec", "image.pullPolicy"}
    }
    given = [f"{path}={json.dumps(value)}" for path, value in void.items()]
    _whole([*sets(MOST), *(argument for value in given for argument in ("--set-json", value))])


@pytest.mark.parametrize("path", sorted(NEEDED))
def test_images_have_names(path: str) -> None:
    with pytest.raises(HelmError, match=f"/{path.replace('.', '/')}': minLength"):
        rendered(f"{path}=")


def test_labels_that_are_taken_away() -> None:
    other = ["monitoring.dashboards.enabled=true", "monitoring.dashboards.labels.grafana_dashboard=null"]
    (dashboard,) = by_name(rendered(*other), "ConfigMap").values()
    assert "grafana_dashboard" not in dashboard["metadata"]["labels"]
    (dashboard,) = by_name(rendered(*other, "monitoring.dashboards.labels.find=me"), "ConfigMap").values()
    assert dashboard["metadata"]["labels"]["find"] == "me"


@pytest.mark.parametrize("void", ["null", "[]"])
def test_no_peers_let_in_nobody(void: str) -> None:
    """A rule without peers would let in everybody."""
    (policy,) = by_name(
        rendered(arguments=["--set-json", f"networkPolicy.from={void}"]), "NetworkPolicy"
    ).values()
    assert policy["spec"]["ingress"] == []
    assert policy["spec"]["policyTypes"] == ["Ingress"]


def test_alerts_link_to_pages_only_where_they_are_served() -> None:
    on = ["monitoring.rules.enabled=true"]
    plain = objects_of(template(*sets(on), *KNOWN))
    (rule,) = by_name(plain, "PrometheusRule").values()
    alerts = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    assert len(alerts) > 10
    assert all(alert["annotations"].keys() == {"summary", "description"} for alert in alerts)


def test_it_is_a_dependency_by_the_usual_condition(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(CHART, parent / "charts" / "mailpods")
    dependency = {"name": "mailpods", "version": "0.1.0", "condition": "mailpods.enabled"}
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))
    for enabled in ("true", "false"):
        said = helm.helm("template", "site", str(parent), *sets([f"mailpods.enabled={enabled}"]))
        assert ("kind: Deployment" in said) == (enabled == "true")
    named = helm.helm("template", "site", str(parent), *sets(["mailpods.fullnameOverride=post"]))
    assert by_name(objects_of(named), "Deployment").keys() == {"post"}


def test_every_value_is_explained_and_in_the_schema() -> None:
    text = (CHART / "values.yaml").read_text()
    assert VALUES.keys() == SCHEMA["properties"].keys() - {"global"}
    together = [f"{name}: []" for name in ("tolerations", "extraVolumeMounts")]
    together += [f"{name}: {{}}" for name in ("affinity", "commonAnnotations", "podAnnotations")]
    before = ""
    for line in text.splitlines():
        if re.match(r"[a-zA-Z]+:", line) and line not in together:
            name = line.split(":")[0]
            explained = before.startswith("#") or isinstance(VALUES[name], dict)
            assert explained, f"{name} has no comment"
        before = line


def test_the_readme_s_table_has_every_value() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \|", (CHART / "README.md").read_text(), re.M)
    groups = {path for path, default in PATHS.items() if isinstance(default, dict) and default}
    leaves = PATHS.keys() - groups - {"monitoring.dashboards.labels.grafana_dashboard"}
    leaves -= {path for path in leaves if path.startswith("resources.")}
    assert sorted(rows) == sorted(leaves | {"resources", "monitoring.dashboards.labels"})


def test_what_the_chart_says_of_itself() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    notes = {name.removeprefix("artifacthub.io/"): text for name, text in chart["annotations"].items()}
    kinds = {(each["kind"], each["name"], each["version"]) for each in yaml.safe_load(notes["crds"])}
    version = API_VERSION.rpartition("/")[2]
    assert kinds == {(kind, f"{model.plural}.mailpods.io", version) for kind, model in KINDS.items()}
    images = {each["image"] for each in yaml.safe_load(notes["images"])}
    assert images == {_operator()["image"], _mail_image()}
    for example in yaml.safe_load(notes["crdsExamples"]):
        KINDS[example["kind"]].model_validate(example)
    assert [each["name"] for each in chart["maintainers"]] == ["Mailpods"]
    assert {"home", "icon", "keywords", "sources"} <= chart.keys()
