"""What is counted of clients. The text of each metric is its documentation."""

from prometheus_client import Counter, Gauge

CONNECTIONS = Counter("mail_smtp_connections", "Connections taken, by listener.", ["listener"])
OPEN = Gauge("mail_smtp_connections_open", "Connections that are open now.", multiprocess_mode="livesum")
REJECTS = Counter(
    "mail_smtp_rejects",
    "Refusals given to clients: commands, recipients, logins, messages and connections, by reason.",
    ["reason"],
)
LOGINS = Counter("mail_smtp_logins", "Attempts to log in, by result: ok, wrong, unavailable.", ["result"])
for _result in ("ok", "wrong", "unavailable"):
    LOGINS.labels(_result)  # there from the start, or the first failure would be no rise
