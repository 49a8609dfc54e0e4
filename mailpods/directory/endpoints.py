"""Where an endpoint of the directory is: in a cluster DNS knows; a single machine has a file instead."""

import json
import os


def resolve(endpoint: str) -> tuple[str, int]:
    """Host and port of an endpoint `host:port`.

    The file named by the environment's RESOLVE_FILE, a JSON object of endpoints, is asked first: it stands in
    for the cluster's DNS. It is small and read at each call, so that restarted programs are found at once.
    Raises ValueError for an endpoint without a port.
    """
    if path := os.environ.get("RESOLVE_FILE"):
        try:
            with open(path, encoding="utf-8") as file:
                endpoint = json.load(file).get(endpoint, endpoint)
        except FileNotFoundError:
            pass
    host, separator, port = endpoint.rpartition(":")
    if not separator or not port.isdigit():
        raise ValueError(f"{endpoint!r} is not an endpoint: write host:port")
    return host, int(port)
