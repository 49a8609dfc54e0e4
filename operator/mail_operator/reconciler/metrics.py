"""What the operator counts. The help text of each is its documentation."""

from prometheus_client import Counter, Gauge, Histogram

ROUND = Histogram(
    "mailpods_operator_round_seconds",
    "Time from a change that was noticed, the quiet moment not counted, to all objects applied.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
COMPILE = Histogram(
    "mailpods_operator_compile_seconds",
    "Time of one compile of all resources into a Plan.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
APPLIED = Counter("mailpods_operator_applied", "Objects written by server-side apply.")
STATUSES = Counter("mailpods_operator_statuses", "Statuses written.")
WAITING = Gauge(
    "mailpods_operator_waiting", "Resources that are valid and wait for pods to load their files."
)
REQUESTS = Counter(
    "mailpods_operator_api_requests",
    "Requests to the API server, watches not counted; status 0: no answer.",
    ["method", "status"],
)
