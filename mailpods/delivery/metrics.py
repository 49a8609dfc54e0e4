"""What delivery counts. The text of each metric is its documentation."""

from prometheus_client import Counter, Gauge, Histogram

from mailpods.delivery.outcomes import response_classes

DELIVERED = Counter("mail_delivery_delivered", "Copies that a destination took, by lane.", ["lane"])
DEFERRED = Counter(
    "mail_delivery_deferred", "Recipients put off to be tried again, by what the reply means.", ["class"]
)
TLS = Counter(
    "mail_delivery_connections",
    "Connections to servers of other domains, by TLS: dane, verified (MTA-STS), opportunistic, none, failed.",
    ["tls"],
)
for _name in ("dane", "verified", "opportunistic", "none", "failed"):
    TLS.labels(_name)
SUPPRESSED = Counter(
    "mail_delivery_suppressed", "Copies that did not go because their recipients are on a suppression list."
)
LIMITED = Counter("mail_delivery_limited", "Recipients that wait for their turn by a limit of the bulk pool.")
FAILED = Counter(
    "mail_delivery_failed",
    "Recipients given up for good, whose senders are told, by what the reply means.",
    ["class"],
)
for _name in response_classes.NAMES:  # there from the start, or the first of its class would be no rise
    DEFERRED.labels(_name)
    FAILED.labels(_name)
PARKED = Counter(
    "mail_delivery_parked",
    "Recipients put off by a fault of our own about their message; the log says which.",
)
NOTIFICATIONS = Counter("mail_delivery_notifications", "Delivery status notifications made (RFC 3464).")
ACTIVE = Gauge(
    "mail_delivery_active", "Messages in memory, under way or waiting.", multiprocess_mode="livesum"
)
UNREACHABLE = Gauge(
    "mail_delivery_unreachable",
    "1 for a lane whose destination could not be reached at the last attempt.",
    ["lane"],
    multiprocess_mode="livemax",
)
SECONDS = Histogram(
    "mail_delivery_seconds",
    "Time from the 250 to the client until a recipient was delivered.",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 3600, 86400),
)
