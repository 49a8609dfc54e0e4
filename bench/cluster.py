"""`./run bench-cluster`: the operator at ten thousand mailboxes on the cluster of processes, as Markdown.

The API server's audit log counts what the operator wrote; nothing is taken from its own metrics.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mail_operator.cluster.__main__ import login
from mail_operator.cluster.client import ApiClient

from tests.cluster.installation import NAMESPACE, ClusterInstallation, fetched, kubectl
from tests.cluster.operator import NAMESPACE as OPERATOR_NAMESPACE
from tests.cluster.operator import Operator, process_of
from tests.support.installation import manifest, server, wait

USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:mailpods-operator"
WRITES = {"create", "update", "patch", "delete"}
AT_ONCE = 16
SINGLES = 25
CHANGES = 15
AWAY_SECONDS = 60


def _hash(password: str) -> str:
    digest = hashlib.sha256(password.encode()).digest()
    return "{SHA256}" + base64.b64encode(digest).decode()


def _mailbox(name: str, domain: str, password: str) -> dict[str, Any]:
    spec = {"domainRef": {"name": domain}, "passwordHash": _hash(password)}
    return manifest("Mailbox", name, spec, NAMESPACE)


class Audit:
    """What the operator wrote since the last look: resource (with its subresource) -> writes."""

    def __init__(self) -> None:
        self._file = Path(os.environ["MAILPODS_AUDIT_LOG"]).open()  # noqa: SIM115 - it lives with the run
        self._file.seek(0, os.SEEK_END)

    def writes(self) -> Counter[str]:
        """Count, and begin anew. Calls that the server refused are counted, too."""
        time.sleep(1)  # the log is written a moment after the answer
        found: Counter[str] = Counter()
        for line in self._file:
            event = json.loads(line)
            if event["user"]["username"] == USER and event["verb"] in WRITES:
                about = event["objectRef"]
                found["/".join(filter(None, (about["resource"], about.get("subresource"))))] += 1
        return found


def _until_ready(ready: Callable[[], int], wanted: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (now := ready()) < wanted:
        assert time.monotonic() < end, f"{now} of {wanted} are ready after {seconds} s"
        time.sleep(0.5)


async def _each(verb: str, paths: Iterable[tuple[str, dict[str, Any]]]) -> None:
    client = ApiClient(login, "bench")
    await client.open()
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(path: str, body: dict[str, Any]) -> None:
        async with slots:
            await (client.create(path, body) if verb == "create" else client.delete(path))

    await asyncio.gather(*(one(path, body) for path, body in paths))
    await client.close()


def _collection(plural: str) -> str:
    return f"/apis/mailpods.io/v1alpha1/namespaces/{NAMESPACE}/{plural}"


def _ready_count() -> int:
    """Mailboxes that are Ready, from the API server's cache."""
    raw = kubectl("get", "--raw", f"{_collection('mailboxes')}?resourceVersion=0")
    return sum(
        any(
            c["type"] == "Ready" and c["status"] == "True"
            for c in each.get("status", {}).get("conditions", ())
        )
        for each in json.loads(raw)["items"]
    )


def _dns_is_asked() -> bool:
    """Whether each domain's status says what DNS knows of its records."""
    found = json.loads(kubectl("get", "maildomains", "-n", NAMESPACE, "-o", "json"))["items"]
    types = ({c["type"] for c in each.get("status", {}).get("conditions", ())} for each in found)
    return all("DNSComplete" in each for each in types)


def _single(installation: ClusterInstallation, name: str, domain: str, number: int) -> float:
    """Seconds from `kubectl apply` to Ready; the login is tried once after it."""
    began = time.monotonic()
    kubectl("apply", "-f", "-", stdin=json.dumps(_mailbox(name, domain, name)))
    kubectl("wait", "--for=condition=Ready", f"mailbox/{name}", "-n", NAMESPACE, "--timeout=30s")
    seconds = time.monotonic() - began
    with installation.imap(f"{number}/{name}", name):
        return seconds


def _singles(installation: ClusterInstallation, prefix: str) -> list[float]:
    times = []
    for n in range(SINGLES):
        time.sleep(1 + n / SINGLES)  # every phase of Dovecot's second
        times.append(_single(installation, f"{prefix}{n}", "single", 900))
    return sorted(times)


def _row(what: str, *cells: object) -> str:
    return f"| {what} | {' | '.join(map(str, cells))} |"


def _percentiles(times: list[float]) -> str:
    return f"{statistics.median(times):.2f} s, slowest of {len(times)} {times[-1]:.2f} s"


def _change(installation: ClusterInstallation, n: int) -> float:
    """Seconds until Ready again, when the new password is taken at once; then the old one is refused."""
    began = time.monotonic()
    name = f"u-0-{n}"
    patch = json.dumps({"spec": {"passwordHash": _hash(f"new-{n}")}})
    kubectl("patch", "mailbox", name, "-n", NAMESPACE, "--type=merge", "-p", patch)
    installation.wait_for("Mailbox", name)  # of this generation
    seconds = time.monotonic() - began
    # Each is tried once. Their own time does not count: Dovecot makes an address wait that failed to log in.
    assert installation.can_log_in(f"100/{name}", f"new-{n}")
    assert not installation.can_log_in(f"100/{name}", "secret")
    time.sleep(1 + n / CHANGES)
    return seconds


@contextmanager
def _unreachable(operator: Operator) -> Iterator[None]:
    """Nothing of the operator's reaches the API server."""
    pod = operator.pod()
    assert pod
    rule = ["INPUT", "-s", pod["status"]["podIP"], "-p", "tcp", "--dport", "6443", "-j", "DROP"]
    subprocess.run(["iptables", "-I", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True)


def _memory(operator: Operator) -> dict[str, int]:
    """VmRSS and VmHWM of the operator, MiB."""
    pod = operator.pod()
    assert pod
    lines = Path(f"/proc/{process_of(pod['metadata']['uid'])}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) // 1024 for name in ("VmRSS", "VmHWM")}


def _converged(operator: Operator) -> bool:
    """Whether its first round is done and no object waits for pods."""
    try:
        return (
            operator.pod() is not None
            and operator.metric("mailpods_operator_round_seconds_count") >= 1
            and operator.metric("mailpods_operator_waiting") == 0
        )
    except OSError:
        return False


def run(count: int, domains: int, steady: int) -> Iterator[str]:
    """Measure; yields the lines of the table as they come."""
    for name in (OPERATOR_NAMESPACE, NAMESPACE):
        kubectl("create", "namespace", name)
    operator = Operator()
    operator.install()
    installation = ClusterInstallation()
    numbered = {"serverRef": {"name": "main"}, "login": {"forms": ["numbered"]}}
    installation.apply("server", server(storage={"size": "1Gi", "spoolSize": "1Gi"}))
    single = {"domainName": "single.test", "number": 900, **numbered}
    installation.apply("single", manifest("MailDomain", "single", single, NAMESPACE))
    installation.wait_for("MailServer", "main", seconds=120)
    audit = Audit()

    yield "| what | measured | goal |"
    yield "|---|---|---|"
    times = _singles(installation, "few")
    yield _row("`kubectl apply` of one Mailbox → Ready → login", _percentiles(times), "p50 ≤ 1.5, p99 ≤ 4 s")

    specs = [{"domainName": f"d{n}.test", "number": 100 + n, **numbered} for n in range(domains)]
    specs = [{**spec, "number": 1000 + spec["number"]} if spec["number"] == 900 else spec for spec in specs]
    made = [manifest("MailDomain", f"d{n}", spec, NAMESPACE) for n, spec in enumerate(specs)]
    asyncio.run(_each("create", ((_collection("maildomains"), body) for body in made)))
    audit.writes()
    bodies = [_mailbox(f"u-{n % domains}-{n // domains}", f"d{n % domains}", "secret") for n in range(count)]
    before, began = _ready_count(), time.monotonic()
    asyncio.run(_each("create", ((_collection("mailboxes"), body) for body in bodies)))
    created = time.monotonic() - began
    _until_ready(_ready_count, before + count, 900)
    seconds = time.monotonic() - began
    rate = f"{seconds:.0f} s, {count / seconds:.0f}/s (created in {created:.0f} s)"
    yield _row(f"{count} Mailboxes in {domains} domains at once → all Ready", rate, "≥ 100/s")
    for _ in range(150):  # each domain's status takes a write more once DNS has answered
        if _dns_is_asked():
            break
        time.sleep(2)
    time.sleep(10)
    writes = audit.writes()
    per = writes["mailboxes/status"] / count
    yield _row("writes per new Mailbox: its status", f"{per:.2f}", "≤ 1.1")
    others = ", ".join(f"{n} {what}" for what, n in sorted(writes.items()) if what != "mailboxes/status")
    yield _row("other writes for all of them", others, "O(shards)")
    memory = _memory(operator)
    yield _row("operator memory", f"{memory['VmRSS']} MiB, at most {memory['VmHWM']} MiB", "≤ 130 MiB")

    audit.writes()
    time.sleep(steady)
    yield _row(f"writes in steady state, {steady} s", audit.writes().total(), "0")

    times = _singles(installation, "late")
    yield _row(f"one more Mailbox among {count} → Ready → login", _percentiles(times), "p50 ≤ 1.5, p99 ≤ 4 s")
    audit.writes()
    times = sorted(_change(installation, n) for n in range(CHANGES))
    secrets = audit.writes()["secrets"] / CHANGES
    yield _row("password change → old refused, new taken", _percentiles(times), "p50 ≤ 2 s")
    yield _row("Secrets written for each", f"{secrets:.2f}", "1")

    audit.writes()
    began = time.monotonic()
    operator.kill()
    wait(lambda: _converged(operator), 120)
    seconds = time.monotonic() - began
    yield _row("restart → converged", f"{seconds:.1f} s", "≤ 15 s")
    time.sleep(10)
    writes = audit.writes()
    named = ", ".join(f"{n} {what}" for what, n in sorted(writes.items())) or "0"
    yield _row("writes made by the restart", named, "0")
    memory = _memory(operator)
    yield _row("memory after it", f"{memory['VmRSS']} MiB, at most {memory['VmHWM']} MiB", "≤ 130 MiB")

    gone = [f"u-1-{n}" for n in range(count // domains)] + [f"u-2-{n}" for n in range(count // domains)]
    with _unreachable(operator):
        paths = [(f"{_collection('mailboxes')}/{name}", dict[str, Any]()) for name in gone]
        asyncio.run(_each("delete", paths))
        time.sleep(AWAY_SECONDS)
        assert installation.can_log_in("102/u-2-0", "secret")
    began = time.monotonic()
    while installation.can_log_in("102/u-2-0", "secret"):
        time.sleep(0.2)
    seconds = time.monotonic() - began
    yield _row(
        f"API server away for {AWAY_SECONDS} s, {len(gone)} objects deleted → gone from the directory",
        f"{seconds:.1f} s",
        "≤ 30 s after it is back",
    )
    assert fetched("MailServer", "main")["status"]["mailboxes"] == count + 2 * SINGLES - len(gone)
    operator.uninstall()
    for name in (NAMESPACE, OPERATOR_NAMESPACE):
        kubectl("delete", "namespace", name, "--timeout=300s")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="./run bench-cluster", description=__doc__)
    parser.add_argument("--mailboxes", type=int, default=10_000)
    parser.add_argument("--domains", type=int, default=500)
    parser.add_argument("--steady", type=int, default=600, metavar="SECONDS", help="(default: 600)")
    options = parser.parse_args()
    for line in run(options.mailboxes, options.domains, options.steady):
        print(line, flush=True)


if __name__ == "__main__":
    main()
