"""What is counted of the requests to the API server."""

from prometheus_client import Counter

REQUESTS = Counter(
    "mailpods_operator_api_requests",
    "Requests to the API server, watches not counted; status 0: no answer.",
    ["method", "status"],
)
