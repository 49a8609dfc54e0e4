"""Accounts as Dovecot's passwd-files: a file of logins for each service, and one of mailboxes.

A service that is off has no line; one for the LAN alone has `allow_nets`, judged by the client's address.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mailpods.directory.records import AccountId, Credential, Credentials, Service, StoreSettings

SERVICES: tuple[Service, ...] = ("imap", "pop3", "sieve", "smtp")
QUOTA_FIELD = {(2, 3): "userdb_quota_rule=*:bytes={}", (2, 4): "userdb_quota_storage_size={}B"}

Version = tuple[int, int]


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
    services: Iterable[Service] = SERVICES,
) -> dict[str, bytes]:
    """File name -> content. `mail` is the folder of mailboxes, None where there are none (SMTP AUTH)."""
    files = {
        f"passdb.{service}": "".join(
            line
            for id, credential in accounts.items()
            for line in _logins(id, credential, service, settings.lan)
        )
        for service in services
    }
    if mail is not None:
        files["userdb"] = "".join(
            _mailbox(id, credential, mail, version)
            for id, credential in accounts.items()
            if credential.mailbox
        )
    return {name: text.encode() for name, text in files.items()}


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


def _mailbox(id: AccountId, credential: Credential, mail: Path, version: Version) -> str:
    quota = QUOTA_FIELD[version].format(credential.quota) if credential.quota is not None else ""
    return f"{id}:::::{home(mail, id)}::{quota}\n"
