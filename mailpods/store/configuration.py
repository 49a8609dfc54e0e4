"""Dovecot's configuration, in the language of the version at hand: 2.3, or 2.4, which renamed most of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mailpods.directory.endpoints import UNIX
from mailpods.store import sieve
from mailpods.store.accounts import Version, password_query, user_query
from mailpods.store.statistics import metrics

_MOST_WORKERS = 16
_FOLDERS = ("Drafts", "Sent", "Junk", "Trash", "Archive")  # special uses of RFC 6154
# service, its ports: (variable PORT_<NAME>, TLS from the first byte, PROXY header)
_LOGIN = {
    "imap-login": [("IMAP", 0, 0), ("IMAPS", 1, 0), ("IMAP_PP", 0, 1), ("IMAPS_PP", 1, 1)],
    "pop3-login": [("POP3", 0, 0), ("POP3S", 1, 0), ("POP3_PP", 0, 1), ("POP3S_PP", 1, 1)],
    "managesieve-login": [("SIEVE", 0, 0)],
}


@dataclass(frozen=True)
class Facts:
    """What the configuration depends on. `ports` are the PORT_<NAME> of the environment, without prefix."""

    version: Version
    full_version: str  # as 2.4 wants it said, e.g. 2.4.1
    user: str
    group: str
    bind: str
    ports: Mapping[str, str]  # each a number, or unix:PATH
    state: Path
    database: Path  # of the accounts
    mail: Path | None  # None: an authenticator without mailboxes
    tls: Path | None
    hostname: str
    tls_required: bool
    outgoing: int = 0  # port of loopback that takes what filters send
    proxies: str = "0.0.0.0/0 ::/0"  # networks that may send a PROXY header
    trusted: tuple[str, ...] = ()  # addresses that tell the client's: other shards, which pass logins on
    cores: int = 2


def files(facts: Facts) -> dict[Path, str]:
    """What Dovecot reads; dovecot.conf is its main file, and 2.3 has its queries in one of their own."""
    main = {facts.state / "dovecot.conf": _configuration(facts)}
    return main if facts.version >= (2, 4) else {_queries_file(facts): _queries(facts), **main}


def _configuration(facts: Facts) -> str:
    new = facts.version >= (2, 4)
    lines = [*_common(facts, new), *metrics(facts.version), *_accounts(facts, new)]
    if facts.mail is not None:
        lines += [*_tls(facts, new), *_mail(facts, new), *_listeners(facts, new)]
    else:
        lines += ["ssl = no", "protocols ="]
    return "\n".join(lines) + "\n"


def _common(facts: Facts, new: bool) -> list[str]:
    version = facts.full_version
    lines = [f"dovecot_config_version = {version}", f"dovecot_storage_version = {version}"] if new else []
    lines += [
        f"base_dir = {facts.state}/run",
        f"state_dir = {facts.state}/state",
        f"listen = {facts.bind}",
        "log_path = /dev/stderr",
        f"default_internal_user = {facts.user}",
        f"default_internal_group = {facts.group}",
        f"default_login_user = {facts.user}",
        # Root is not needed for anything: nothing changes its root or its user.
        # Without its socket nobody is made to wait for the wrong tries of others behind his address.
        "service anvil {\n  chroot =\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}",
        "auth_failure_delay = 2 secs",
        "service stats {\n  client_limit = 4000\n}",
    ]
    if not new:
        old = ("stats", "ipc", "old-stats", "aggregator", "director")
        lines += [f"service {name} {{\n  chroot =\n}}" for name in old]
    return lines


def _accounts(facts: Facts, new: bool) -> list[str]:
    # Lookups and hashes run in workers, forked on demand: a burst of logins must not fork dozens.
    workers = min(2 * facts.cores, _MOST_WORKERS)
    mode = "0600" if facts.mail is not None else "0660"
    lines = [
        "auth_mechanisms = plain login",
        "auth_username_chars = abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@/+=~",
        # No cache: a changed password counts at once.
        "auth_cache_size = 0",
        "service auth {\n  client_limit = 5000\n"
        f"  unix_listener auth-client {{\n    mode = {mode}\n  }}\n}}",
    ]
    limit = f"  process_limit = {workers}\n" if new else ""
    lines.append(f"service auth-worker {{\n  vsz_limit = 2G\n{limit}}}")  # for hashes that take much memory
    if not new:
        sql = f"driver = sql\n  args = {_queries_file(facts)}"
        userdb = sql if facts.mail is not None else "driver = static\n  args = home=/nonexistent"
        return [
            *lines,
            f"auth_worker_max_count = {workers}",
            f"passdb {{\n  {sql}\n}}",
            f"userdb {{\n  {userdb}\n}}",
        ]
    lines += [
        "auth_username_format = %{user | lower}",
        f"sql_driver = sqlite\nsqlite_path = {facts.database}\nsqlite_readonly = yes",
        f"passdb sql {{\n  default_password_scheme = CRYPT\n"
        f"  query = {password_query('%{user}', '%{protocol}')}\n}}",
    ]
    if facts.mail is None:
        return [*lines, "userdb static {\n  fields {\n    home = /nonexistent\n  }\n}"]
    return [*lines, f"userdb sql {{\n  query = {user_query('%{user}', facts.mail, facts.version)}\n}}"]


def _queries_file(facts: Facts) -> Path:
    return facts.state / "accounts" / "queries.conf"


def _queries(facts: Facts) -> str:
    """What 2.3 has in a file of its own."""
    lines = [
        "driver = sqlite",
        f"connect = file:{quote(str(facts.database))}?mode=ro",
        "default_pass_scheme = CRYPT",
        f"password_query = {password_query('%Lu', '%s')}",
    ]
    if facts.mail is not None:
        lines.append(f"user_query = {user_query('%Lu', facts.mail, facts.version)}")
    return "\n".join(lines) + "\n"


def _tls(facts: Facts, new: bool) -> list[str]:
    cleartext = "no" if facts.tls_required else "yes"
    if new:
        return [
            "ssl = yes",
            f"ssl_server {{\n  cert_file = {facts.tls}\n  key_file = {facts.tls}\n}}",
            f"auth_allow_cleartext = {cleartext}",
        ]
    return [
        "ssl = yes",
        f"ssl_cert = <{facts.tls}",
        f"ssl_key = <{facts.tls}",
        "ssl_min_protocol = TLSv1.2",
        f"disable_plaintext_auth = {'yes' if facts.tls_required else 'no'}",
    ]


def _mail(facts: Facts, new: bool) -> list[str]:
    folders = "\n".join(
        f"  mailbox {name} {{\n    auto = subscribe\n    special_use = \\{name}\n  }}" for name in _FOLDERS
    )
    lines = [
        "first_valid_uid = 1",
        f"mail_uid = {facts.user}",
        f"mail_gid = {facts.group}",
        "mail_fsync = optimized",
        # fcntl locks on index files met "Resource deadlock avoided" under stress; volumes are local disks.
        "lock_method = flock",
        "mailbox_list_index = yes",
        # Nobody but Dovecot changes cur/: a large one is not read again after each message that came.
        "maildir_very_dirty_syncs = yes",
        f"namespace inbox {{\n  inbox = yes\n  separator = /\n{folders}\n}}",
        "lmtp_rcpt_check_quota = yes",
        "lmtp_hdr_delivery_address = none",
        "quota_full_tempfail = no",
        "recipient_delimiter = +",
        f"hostname = {facts.hostname}",
        f"postmaster_address = postmaster@{facts.hostname}",
        # Or a new certificate would end all sessions, for whoever outlives a reload by six seconds is told to
        # end. Those that outlive Dovecot itself are ended by supervise.
        "shutdown_clients = no",
        f"haproxy_trusted_networks = {facts.proxies}",
        f"login_trusted_networks = {' '.join(facts.trusted)}",
    ]
    if new:
        return [
            *lines,
            "protocols {\n  imap = yes\n  pop3 = yes\n  lmtp = yes\n  sieve = yes\n}",
            "mail_driver = maildir",
            "mail_path = ~/Maildir",
            "mail_plugins {\n  quota = yes\n}",
            "mail_attribute {\n  dict file {\n    path = %{home}/attributes\n  }\n}",
            'quota "User quota" {\n}',
            "quota_storage_grace = 0",
            "quota_status_success = DUNNO",
            "quota_status_nouser = DUNNO",
            "quota_status_overquota = 552 5.2.2 Mailbox is full",
            "quota_status_toolarge = 552 5.2.3 Message too large for mailbox",
            "protocol imap {\n  mail_plugins {\n    imap_quota = yes\n  }\n"
            "  mail_max_userip_connections = 50\n  imap_metadata = yes\n}",
            *sieve.settings(facts.version, facts.outgoing),
        ]
    return [
        *lines,
        "protocols = imap pop3 lmtp sieve",
        "mail_location = maildir:~/Maildir",
        "mail_plugins = quota",
        "mail_attribute_dict = file:%h/attributes",
        "protocol imap {\n  mail_plugins = $mail_plugins imap_quota imap_zlib\n"
        "  mail_max_userip_connections = 50\n  imap_metadata = yes\n}",
        "plugin {\n  quota = count:User quota\n  quota_vsizes = yes\n  quota_grace = 0\n"
        "  quota_status_success = DUNNO\n  quota_status_nouser = DUNNO\n"
        "  quota_status_overquota = 552 5.2.2 Mailbox is full\n}",
        *sieve.settings(facts.version, facts.outgoing),
    ]


def _listeners(facts: Facts, new: bool) -> list[str]:
    unlimited = "restart_request_count = unlimited" if new else "service_count = 0"
    lines = []
    for service, ports in _LOGIN.items():
        listeners = "\n".join(_listener(facts, name, bool(tls), bool(proxy)) for name, tls, proxy in ports)
        fewest = "\n  process_min_avail = 1" if service == "imap-login" else ""
        lines.append(
            f"service {service} {{\n  chroot =\n  {unlimited}{fewest}\n  client_limit = 2500\n{listeners}\n}}"
        )
    keep = f"  {unlimited}\n" if new else ""
    lines.append(f"service lmtp {{\n{keep}{_listener(facts, 'LMTP')}\n}}")
    lines.append(
        "service quota-status {\n  executable = quota-status -p postfix\n  client_limit = 1\n"
        f"{_listener(facts, 'QUOTA')}\n}}"
    )
    return lines


def _listener(facts: Facts, name: str, tls: bool = False, proxy: bool = False) -> str:
    """A listener on PORT_<name>. Port 0 switches off one that Dovecot would open by itself."""
    port = facts.ports.get(name, "0")
    off = f"  inet_listener {name.lower().replace('_', '-')} {{\n    port = 0\n  }}"
    if port.startswith(UNIX):
        return f"{off}\n  unix_listener {port.removeprefix(UNIX)} {{\n    mode = 0600\n  }}"
    options = [f"    port = {port}"]
    options += ["    ssl = yes"] if tls else []
    options += ["    haproxy = yes"] if proxy else []
    inner = "\n".join(options)
    return f"  inet_listener {name.lower().replace('_', '-')} {{\n{inner}\n  }}"
