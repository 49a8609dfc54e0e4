"""DNS with DNSSEC on loopback: Knot signs zones and answers for them, Unbound validates what it says."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode

from bench.processes import free_port

SERVER = "127.0.0.1"

_KNOT = """\
server:
    rundir: {folder}
    user: root:root
    listen: {server}@{port}
database:
    storage: {folder}
log:
  - target: stderr
    any: error
zone:
"""
_UNBOUND = """\
server:
    interface: {server}@{port}
    port: {port}
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    do-not-query-localhost: no
    module-config: "validator iterator"
remote-control:
    control-enable: no
"""


@contextmanager
def signed_zones(
    folder: Path, zones: Mapping[str, Sequence[str]], unsigned: Sequence[str] = (), forged: Sequence[str] = ()
) -> Iterator[str]:
    """Where the validating server listens. `zones`: name -> records, as in a zone file, relative to it.

    `unsigned` are known to have no signatures; `forged` have some that nobody believes.
    """
    folder.mkdir()
    knot, unbound = free_port(), free_port()
    config = _KNOT.format(folder=folder, server=SERVER, port=knot)
    for zone, records in zones.items():
        lines = ["$TTL 60", f"@ SOA ns hostmaster 1 60 60 60 60\n@ NS ns\nns A {SERVER}", *records]
        (folder / f"{zone}.zone").write_text("\n".join(lines) + "\n")
        signing = "off" if zone in unsigned else "on"
        config += f"  - domain: {zone}\n    file: {folder}/{zone}.zone\n    dnssec-signing: {signing}\n"
        config += "    zonefile-sync: -1\n    journal-content: none\n"
    (folder / "knot.conf").write_text(config)
    authority = subprocess.Popen(["knotd", "-c", str(folder / "knot.conf")])
    validator = None
    try:
        keys = {zone: _key(knot, zone) for zone in zones if zone not in unsigned}
        other = next((keys[zone] for zone in keys if zone not in forged), "")
        config = _UNBOUND.format(folder=folder, server=SERVER, port=unbound)
        for zone in zones:
            config += f'server:\n    local-zone: "{zone}." nodefault\n'
            if zone in keys:
                key = other if zone in forged else keys[zone]
                config += f'    trust-anchor: "{zone}. DNSKEY {key}"\n'
            config += f'stub-zone:\n    name: "{zone}"\n    stub-addr: {SERVER}@{knot}\n'
        config += 'server:\n    local-zone: "test." nodefault\n'
        (folder / "unbound.conf").write_text(config)
        validator = subprocess.Popen(["unbound", "-d", "-c", str(folder / "unbound.conf")])
        for zone in zones:
            _wait_for(unbound, zone, signed=zone in keys and zone not in forged)
        yield f"{SERVER}:{unbound}"
    finally:
        for process in (authority, validator):
            if process:
                process.terminate()
                process.wait(20)


def _key(port: int, zone: str) -> str:
    """The key that signs a zone's keys, once the zone is signed."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            answer = dns.query.udp(dns.message.make_query(zone, "DNSKEY"), SERVER, 0.5, port)
        except (OSError, dns.exception.DNSException):
            answer = None
        for rrset in answer.answer if answer else ():
            for record in rrset:
                if record.flags & 1:  # SEP
                    return str(record.to_text())
        time.sleep(0.05)
    raise TimeoutError(f"{zone} is not signed")


def _wait_for(port: int, zone: str, signed: bool) -> None:
    query = dns.message.make_query(zone, "SOA")
    query.flags |= dns.flags.AD
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            answer = dns.query.udp(query, SERVER, 1, port)
            if not signed or answer.flags & dns.flags.AD:
                return
        except (OSError, dns.exception.DNSException):
            pass
        time.sleep(0.05)
    raise TimeoutError(f"{zone} is not answered for")
