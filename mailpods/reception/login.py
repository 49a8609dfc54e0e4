"""What becomes of credentials: Dovecot says whose they are, and it is counted and logged."""

from mailpods.directory.records import AccountId
from mailpods.identity.dovecot import AuthUnavailable, Login
from mailpods.reception.replies import NO_LOGIN_NOW, WRONG_LOGIN
from mailpods.reception.state import ReceptionState, log
from mailpods.refusal import Refusal
from mailpods.smtp import metrics
from mailpods.smtp.sasl import Credentials


async def log_in(state: ReceptionState, ip: str, tls: bool, given: Credentials) -> AccountId | Refusal:
    """Whose credentials they are."""
    try:
        account = await state.auth.check(Login(given.username, given.password, ip, tls))
    except AuthUnavailable:
        metrics.LOGINS.labels("unavailable").inc()
        return NO_LOGIN_NOW
    if account is None:
        # What was given as user name is not logged: people type passwords into the wrong field.
        metrics.LOGINS.labels("wrong").inc()
        return WRONG_LOGIN
    metrics.LOGINS.labels("ok").inc()
    log(f"login client={ip} account={account}")
    return account
