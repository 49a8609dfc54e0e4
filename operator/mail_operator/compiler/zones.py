"""What the zones of served names should hold, and what DNS says of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mail_operator.compiler import dkim
from mail_operator.compiler.snapshot import Answers, Question
from mail_operator.compiler.status import Condition, condition
from mailpods.directory.records import DkimKey

Record = dict[str, str]  # name with a dot at the end, type, value as in a zone file

NOT_ASKED = "NotAsked"  # reason of a condition that DNS has not decided yet
MOST_RECORDS = 2000  # that a status holds: keys that somebody adds by hand may be any number
_SHOWN = 5  # records that a message names

# Service -> port, of the SRV records by which clients find what they need (RFC 6186 §3, RFC 8314 §5.1).
_FOUND_BY_SRV = {"imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995, "submission": 587, "submissions": 465}


def of_domain(names: Iterable[str], hostname: str, keys: list[tuple[DkimKey, str]]) -> Iterator[Record]:
    """What leads mail and clients of these domains to the server (R-003-12, R-002-31); keys for receivers."""
    for name in names:
        yield from dkim.records(keys, name)
        yield mail_exchanger(name, hostname)
        for service, port in _FOUND_BY_SRV.items():
            yield {"name": f"_{service}._tcp.{name}.", "type": "SRV", "value": f"0 1 {port} {hostname}."}


def mail_exchanger(domain: str, hostname: str) -> Record:
    """The MX record that leads a domain's mail to the server."""
    return {"name": f"{domain}.", "type": "MX", "value": f"10 {hostname}."}


def alias(name: str, hostname: str) -> Record:
    """The record that makes a name another one of the server."""
    return {"name": f"{name}.", "type": "CNAME", "value": f"{hostname}."}


def leading(
    names: Iterable[str], hostname: str, resolvers: tuple[str, ...], answers: Answers
) -> Iterator[str]:
    """Those of the names that DNS leads to the server."""
    for name in names:
        if holds(alias(name, hostname), resolvers, answers):
            yield name


def of_hosts(names: Iterable[str], addresses: Iterable[str]) -> Iterator[Record]:
    """The addresses of the server's names."""
    for name in names:
        for address in addresses:
            yield {"name": f"{name}.", "type": "AAAA" if ":" in address else "A", "value": address}


def questions(records: Iterable[Record], resolvers: tuple[str, ...]) -> list[Question]:
    """What to ask of DNS to know whether these records are there."""
    return list(dict.fromkeys(_question(record, resolvers) for record in records))


def _question(record: Record, resolvers: tuple[str, ...]) -> Question:
    return Question(record["name"].removesuffix("."), record["type"], resolvers)


def holds(record: Record, resolvers: tuple[str, ...], answers: Answers) -> bool:
    """Whether DNS has said that a record is there."""
    return _is_in(record, answers.get(_question(record, resolvers), ()))


def complete(records: Sequence[Record], resolvers: tuple[str, ...], answers: Answers) -> Condition:
    """DNSComplete: whether zones hold what they should."""
    missing = []
    for record in records:
        answer = answers.get(_question(record, resolvers))
        if answer is None:
            return _not_asked("DNSComplete")
        if not _is_in(record, answer):
            missing.append(f"{record['name']} {record['type']}")
    if not missing:
        return condition("DNSComplete", True, "Complete", "DNS holds all of status.dns.records.")
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    message = f"DNS lacks {', '.join(missing[:_SHOWN])}{more}: add what status.dns.records says to the zone."
    return condition("DNSComplete", False, "RecordsMissing", message)


def seen(
    keys: Iterable[tuple[DkimKey, str]], domains: Sequence[str], resolvers: tuple[str, ...], answers: Answers
) -> tuple[str, ...]:
    """The selectors whose records DNS holds for all of these domains."""
    found = []
    for key, text in keys:
        records = [record for domain in domains for record in dkim.records([(key, text)], domain)]
        if all(holds(record, resolvers, answers) for record in records):
            found.append(key.selector)
    return tuple(found)


def relayed(
    domains: Mapping[str, str], own: Sequence[str], resolvers: tuple[str, ...], answers: Answers
) -> list[Condition]:
    """DNSReady and MXOrder of domains that are taken for other servers: name -> fixed next hop, or ""."""
    exchangers: dict[str, list[tuple[int, str]]] = {}
    for domain in domains:
        answer = answers.get(Question(domain, "MX", resolvers))
        if answer is None:
            return [_not_asked("DNSReady"), _not_asked("MXOrder")]
        exchangers[domain] = [(int(preference), host) for preference, host in map(str.split, answer)]
    return [_listed(exchangers), _order({d: exchangers[d] for d, hop in domains.items() if not hop}, own)]


def _listed(exchangers: Mapping[str, Sequence[tuple[int, str]]]) -> Condition:
    bare = [domain for domain, hosts in exchangers.items() if not hosts]
    if not bare:
        return condition("DNSReady", True, "Complete", "All of spec.inbound.domains have MX records.")
    message = (
        f"{', '.join(bare[:_SHOWN])} in spec.inbound.domains has no MX record: "
        "add what status.dns.records says to its zone first, or nobody sends its mail here."
    )
    return condition("DNSReady", False, "NoMX", message)


def _order(exchangers: Mapping[str, Sequence[tuple[int, str]]], own: Sequence[str]) -> Condition:
    """Whether each has a server that is better than this one (R-003-14)."""
    for domain, hosts in exchangers.items():
        ours = min((preference for preference, host in hosts if host in own), default=1 << 16)
        if hosts and all(preference >= ours for preference, _ in hosts):
            there = ", ".join(f"{preference} {host}" for preference, host in sorted(hosts))
            message = (
                f"No MX record of {domain} outranks this server's ({there}): its mail cannot be passed on. "
                f"Give its primary server a number below {ours}, or set nextHop."
            )
            return condition("MXOrder", False, "WrongOrder", message)
    return condition("MXOrder", True, "Complete", "Each domain by MX has a server that outranks this one.")


def _not_asked(type_: str) -> Condition:
    return condition(type_, None, NOT_ASKED, "DNS has not answered yet.")


def _is_in(record: Record, answer: Sequence[str]) -> bool:
    """Whether an answer holds a record. Of MX and SRV the numbers for ranking are the zone's own affair."""
    match record["type"]:
        case "MX":
            host = record["value"].split()[1].removesuffix(".")
            return any(each.split()[1] == host for each in answer)
        case "SRV":
            target = [part.removesuffix(".") for part in record["value"].split()[2:]]
            return any(each.split()[2:] == target for each in answer)
        case "CNAME":
            return record["value"].removesuffix(".") in answer
        case "TXT":
            text = "".join(record["value"].split('"')[1::2])
            return any(each.replace(" ", "") == text.replace(" ", "") for each in answer)
        case _:
            return record["value"] in answer
