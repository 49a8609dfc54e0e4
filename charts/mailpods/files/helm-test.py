"""What the pod of `helm test` runs: asks the operator whether it is ready, and the API server for the kinds.

Nothing is made: requests are dry runs. Says what is wrong, and ends with 1.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS = 60


def unready(url: str, seconds: float = SECONDS) -> str | None:
    """Why the operator is not ready, even after that time; None: it is."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return None
        except urllib.error.HTTPError as error:
            why = f"{error.code} {error.read().decode(errors='replace').strip()}"
        except OSError as error:
            why = str(error)
        if time.monotonic() > deadline:
            return f"the operator is not ready: {url}: {why}"
        time.sleep(0.2)


def answered(
    api: str, token: str, context: ssl.SSLContext | None, namespace: str, domain: str
) -> tuple[int, str]:
    """How the API server answers to a MailDomain of that name, in a dry run: code and message."""
    manifest = {
        "apiVersion": "mailpods.io/v1alpha1",
        "kind": "MailDomain",
        "metadata": {"name": "helm-test"},
        "spec": {"domainName": domain, "serverRef": {"name": "helm-test"}},
    }
    request = urllib.request.Request(
        f"{api}/apis/mailpods.io/v1alpha1/namespaces/{namespace}/maildomains?dryRun=All",
        data=json.dumps(manifest).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")[:500]
    except OSError as error:
        return 0, str(error)


def wrong(ask: Callable[[str], tuple[int, str]]) -> str | None:
    """What is wrong with the kinds. `ask`: answered() for a domain name."""
    code, message = ask("helm-test.example")
    if code != 201:
        return f"the API server does not take a MailDomain (are the CRDs there?): {code} {message}"
    code, message = ask("no domain")
    if code != 422:
        return f"the API server takes what is no domain name: {code} {message}"
    return None


def main() -> int:
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as kubectl does
    api = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    token = (ACCOUNT / "token").read_text()
    namespace = os.environ["NAMESPACE"]
    found = [
        unready(os.environ["OPERATOR"]),
        wrong(lambda domain: answered(api, token, context, namespace, domain)),
    ]
    for each in filter(None, found):
        print(each, file=sys.stderr)
    if not any(found):
        print("the operator is ready, and the API server knows its kinds")
    return int(any(found))


if __name__ == "__main__":
    sys.exit(main())
