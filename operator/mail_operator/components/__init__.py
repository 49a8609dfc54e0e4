"""The components of an installation, one declaration each. A new one is one file here and one line below."""

from mail_operator.components.bulk import BULK
from mail_operator.components.component import Component
from mail_operator.components.portal import PORTAL
from mail_operator.components.smtp import SMTP
from mail_operator.components.store import STORE

COMPONENTS: tuple[Component, ...] = (STORE, SMTP, BULK, PORTAL)

__all__ = ["BULK", "COMPONENTS", "PORTAL", "SMTP", "STORE"]
