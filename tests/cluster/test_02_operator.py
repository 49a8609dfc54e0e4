"""What only a cluster can show: restarts, hands in the works, an API server that is away."""

import re
import subprocess
import time

import pytest

from tests.cluster.installation import NAMESPACE, ClusterInstallation, fetched, kubectl
from tests.cluster.operator import Operator
from tests.support import helm
from tests.support.installation import domain, mailbox, secret, wait


def versions() -> dict[str, str]:
    """The resource versions of all that the operator writes."""
    kinds = "mailservers,maildomains,mailboxes,mailaliases,relaypolicies,secrets,services,networkpolicies,pdb"
    columns = "-o=custom-columns=K:.kind,N:.metadata.name,V:.metadata.resourceVersion"
    rows = kubectl("get", kinds, "-n", NAMESPACE, columns, "--no-headers").splitlines()
    return {" ".join(row.split()[:2]): row.split()[2] for row in rows}


def settled() -> dict[str, str]:
    """The same, once the operator is done with all that happened before."""
    seen = versions()
    while True:
        time.sleep(2)
        if seen == (seen := versions()):
            return seen


def test_a_restart_writes_nothing_and_loses_nothing(
    installation: ClusterInstallation, operator: Operator
) -> None:
    before = settled()
    operator.stop()
    installation.apply("meanwhile", mailbox("meanwhile"))
    operator.start()
    installation.wait_for("Mailbox", "meanwhile")
    assert installation.can_log_in("7/meanwhile", "pw-meanwhile")
    after = versions()
    changed = {name for name in before if before[name] != after[name]}
    # The mailbox's own files, and the count of the domain and of the server.
    assert {n for n in changed if not n.startswith("Secret main-")} == {
        "MailDomain a-test",
        "MailServer main",
    }
    assert len([n for n in changed if n.startswith("Secret main-")]) == 2


def test_a_steady_state_makes_no_writes(installation: ClusterInstallation, operator: Operator) -> None:
    before = settled()
    time.sleep(10)
    assert versions() == before


def test_the_operator_tells_all_that_dashboard_and_alerts_ask_of_it(
    installation: ClusterInstallation, operator: Operator
) -> None:
    files = [helm.CHART / "files" / name for name in ("dashboard.json", "alerts.yaml")]
    asked = {name for file in files for name in re.findall(r"mailpods_operator_\w+", file.read_text())}
    told = {re.split(r"[{ ]", line)[0] for line in operator.metrics() if not line.startswith("#")}
    assert len(asked) > 5
    assert asked <= told
    assert operator.metric("mailpods_operator_waiting") == 0
    ready = next(line for line in operator.metrics() if 'kind="Mailbox",ready="True"' in line)
    assert float(ready.split()[1]) >= 2


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy", "Secret"])
def test_what_is_changed_by_hand_comes_back(installation: ClusterInstallation, kind: str) -> None:
    name = {"Service": "main-smtp", "NetworkPolicy": "main-smtp", "Secret": "main-directory"}[kind]
    patch = {
        "Service": '{"spec":{"externalTrafficPolicy":"Cluster"}}',
        "NetworkPolicy": '{"spec":{"ingress":[]}}',
        "Secret": '{"data":{"server.json":"e30="}}',
    }[kind]
    before = fetched(kind, name)
    kubectl("patch", kind, name, "-n", NAMESPACE, "--type=merge", "-p", patch)
    part = {"Service": "externalTrafficPolicy", "NetworkPolicy": "ingress", "Secret": "server.json"}[kind]
    key = "data" if kind == "Secret" else "spec"
    assert part in before[key]

    def restored() -> bool:
        return bool(fetched(kind, name)[key].get(part) == before[key][part])

    wait(restored, 20, f"{kind} {name} did not come back")
    kubectl("delete", kind, name, "-n", NAMESPACE)
    wait(lambda: fetched(kind, name).get("metadata", {}).get("name"), 20, f"{kind} {name} was not made again")


def test_a_new_password_in_a_secret_acts_and_the_old_one_no_longer(installation: ClusterInstallation) -> None:
    installation.apply("changing", mailbox("changing", password="first-one"))
    installation.wait_for("Mailbox", "changing")
    assert installation.can_log_in("7/changing", "first-one")
    for password in ("second-1", "third-01", "fourth-1"):
        installation.apply("changing", mailbox("changing", password=password))
        wait(lambda password=password: installation.can_log_in("7/changing", password), 15)  # type: ignore[misc]
        assert not installation.can_log_in("7/changing", "first-one")


def test_a_missing_secret_turns_only_its_mailbox_false_and_heals(installation: ClusterInstallation) -> None:
    installation.apply("hopeful", mailbox("hopeful")[1])
    assert installation.wait_for("Mailbox", "hopeful", "False")["reason"] == "SecretMissing"
    installation.wait_for("Mailbox", "info")
    installation.apply("hopeful-secret", secret("hopeful-pw", password="pw-hopeful"))
    installation.wait_for("Mailbox", "hopeful")
    assert installation.can_log_in("7/hopeful", "pw-hopeful")


def test_who_is_ready_logs_in_at_once(installation: ClusterInstallation) -> None:
    for n in range(3):
        installation.apply(f"quick-{n}", mailbox(f"quick-{n}"))
        installation.wait_for("Mailbox", f"quick-{n}")
        assert installation.can_log_in(f"7/quick-{n}", f"pw-quick-{n}")


def test_a_number_is_given_and_written_into_the_spec(installation: ClusterInstallation) -> None:
    installation.apply("numbered", domain("c.test"))
    installation.wait_for("MailDomain", "c-test")
    assert (
        fetched("MailDomain", "c-test")["spec"]["number"]
        == installation.status("MailDomain", "c-test")["number"]
        == 1
    )


def test_the_schema_refuses_what_it_can(installation: ClusterInstallation) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        installation.apply("maint", mailbox("maint"))
    assert "maint" in "".join(refused.value.__notes__)


def test_a_deleted_mailbox_is_parked_and_comes_back_with_its_mail(installation: ClusterInstallation) -> None:
    installation.apply("leaver", mailbox("leaver"))
    installation.wait_for("Mailbox", "leaver")
    installation.deliver("x@example.net", "leaver@a.test")
    installation.wait_for_mail("7/leaver", "pw-leaver", 1)
    installation.remove("leaver")
    wait(lambda: not installation.can_log_in("7/leaver", "pw-leaver"), 20)
    installation.apply("leaver", mailbox("leaver"))
    installation.wait_for("Mailbox", "leaver")
    installation.wait_for_mail("7/leaver", "pw-leaver", 1)
