"""Filters of users (RFC 5228), in the language of the version at hand: where they lie, and how they send."""

from mailpods.store.accounts import Version
from mailpods.store.outgoing import ADDRESS


def settings(version: Version, outgoing: int) -> list[str]:
    """The part of dovecot.conf. `outgoing`: port of loopback that takes what filters send."""
    # Who sends it on is its sender: bounces are his, and so is SPF.
    sender = "sieve_redirect_envelope_from = user_email"
    lines = [f"submission_host = {ADDRESS}:{outgoing}"]
    if version >= (2, 4):
        return [
            *lines,
            sender,
            "sieve_script personal {\n  driver = file\n  path = ~/sieve\n  active_path = ~/.dovecot.sieve\n}",
            "protocol lmtp {\n  mail_plugins {\n    sieve = yes\n  }\n}",
        ]
    return [
        *lines,
        "protocol lmtp {\n  mail_plugins = $mail_plugins sieve\n}",
        f"plugin {{\n  {sender}\n  sieve = file:~/sieve;active=~/.dovecot.sieve\n}}",
    ]
