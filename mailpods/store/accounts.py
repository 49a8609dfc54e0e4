"""Accounts as Dovecot's passwd-files: a file of logins for each service, and one of mailboxes.

A service that is off has no line; one for the LAN alone has `allow_nets`, judged by the client's address. A
login of another shard has a line that passes it on as it came: the shard that owns the mailbox judges it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mailpods.directory.records import AccountId, Credential, Credentials, Service, StoreSettings

LOGIN_SERVICES: tuple[Service, ...] = ("imap", "pop3", "sieve")
QUOTA_FIELD = {(2, 3): "userdb_quota_rule=*:bytes={}", (2, 4): "userdb_quota_storage_size={}B"}

Version = tuple[int, int]
Endpoint = tuple[str, int]  # host and port


def home(mail: Path, account: AccountId) -> Path:
    """The folder of an account: MAIL/<number>/<local part>."""
    return mail / account


def merged(files: Iterable[Credentials]) -> dict[AccountId, Credential]:
    """The accounts of all files, ordered, so that equal input gives equal files."""
    accounts = {id: credential for file in files for id, credential in file.accounts.items()}
    return dict(sorted(accounts.items()))


def passwd_files(
    accounts: Mapping[AccountId, Credential],
    settings: StoreSettings,
    mail: Path | None,
    version: Version,
    services: Iterable[Service] = LOGIN_SERVICES,
    shard: int | None = None,
    others: Sequence[Mapping[Service, Endpoint]] = (),
) -> dict[str, bytes]:
    """File name -> content. `mail` is the folder of mailboxes, None where there are none (SMTP AUTH).

    `shard` is the own one, whose accounts are served here; `others` says for each where its logins go.
    """
    lines: dict[Service, list[str]] = {service: [] for service in services}
    mailboxes: list[str] = []
    for id, credential in accounts.items():
        if shard is None or credential.shard == shard:
            for service, logins in lines.items():
                logins += _logins(id, credential, service, settings.lan)
            if mail is not None and credential.mailbox:
                mailboxes.append(_mailbox(id, credential, mail, version, settings.redirects))
        elif credential.shard < len(others):
            for service, endpoint in others[credential.shard].items():
                lines[service].append(_passed_on(credential, service, endpoint))
    files = {f"passdb.{service}": "".join(logins) for service, logins in lines.items()}
    if mail is not None:
        files["userdb"] = "".join(mailboxes)
    return {name: text.encode() for name, text in files.items()}


def _passed_on(credential: Credential, service: Service, endpoint: Endpoint) -> str:
    """The owner asks for the password. The way there is encrypted; its certificate names the public host."""
    if credential.hash is None or credential.services.get(service, "off") == "off":
        return ""
    host, port = endpoint
    fields = f"nopassword=y proxy=y host={host} port={port} starttls=any-cert"
    return "".join(f"{login.lower()}:::::::{fields}\n" for login in credential.logins)


def _logins(id: AccountId, credential: Credential, service: Service, lan: tuple[str, ...]) -> Iterable[str]:
    access = credential.services.get(service, "off")
    if credential.hash is None or not _is_safe(credential.hash) or access == "off":
        return
    if access == "lan" and not lan:
        return  # a LAN that is nowhere holds nobody
    nets = f" allow_nets={','.join(lan)}" if access == "lan" else ""
    for login in credential.logins:
        yield f"{login.lower()}:{credential.hash}::::::user={id}{nets}\n"


def _is_safe(hash: str) -> bool:
    """Whether a hash cannot become fields or lines of its own."""
    return hash.isprintable() and ":" not in hash and " " not in hash


def _mailbox(id: AccountId, credential: Credential, mail: Path, version: Version, redirects: bool) -> str:
    # Here, and not among the settings: those reach a process that delivers only when it ends.
    fields = [] if redirects else ["userdb_sieve_max_redirects=0"]
    if credential.address is not None:
        fields.append(f"userdb_sieve_user_email={credential.address}")
    if credential.quota is not None:
        fields.append(QUOTA_FIELD[version].format(credential.quota))
    return f"{id}:::::{home(mail, id)}::{' '.join(fields)}\n"
