"""All kinds by name."""

from mail_operator.kinds.mailalias import MailAlias
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.maildomain import MailDomain
from mail_operator.kinds.mailinglist import MailingList
from mail_operator.kinds.mailserver import MailServer
from mail_operator.kinds.meta import Resource
from mail_operator.kinds.relaypolicy import RelayPolicy

KINDS: dict[str, type[Resource]] = {
    "MailServer": MailServer,
    "MailDomain": MailDomain,
    "Mailbox": Mailbox,
    "MailAlias": MailAlias,
    "MailingList": MailingList,
    "RelayPolicy": RelayPolicy,
}
