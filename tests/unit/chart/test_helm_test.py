"""`helm test`: what it makes, and what its program says of operators and API servers that are not well."""

import importlib.util
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType

import pytest

from tests.support import helm
from tests.support.charting import by_name, objects_of
from tests.support.helm import CHART, sets, template

SHOWN = ["--show-only", "templates/tests/ready.yaml"]
NO_TLS: ssl.SSLContext | None = None


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """The pod's program."""
    spec = importlib.util.spec_from_file_location("helm_test", CHART / "files" / "helm-test.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def server(*answers: int) -> Iterator[tuple[str, list[bytes]]]:
    """One that gives these answers, the last for ever. Its URL, and what it was asked."""
    codes, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            asked.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            code = codes.pop(0) if len(codes) > 1 else codes[0]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(b"listing")

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def test_an_operator_that_is_not_ready_says_why(program: ModuleType) -> None:
    with server(200) as (url, _):
        assert program.unready(f"{url}/readyz", 0) is None
    with server(503) as (url, _):
        assert "503 listing" in program.unready(f"{url}/readyz", 0)
    assert "refused" in program.unready(f"{url}/readyz", 0)


def test_an_operator_is_waited_for(program: ModuleType) -> None:
    with server(503, 200) as (url, asked):
        assert program.unready(f"{url}/readyz", 30) is None
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ((201, 422), None),
        ((404,), "does not take a MailDomain (are the CRDs there?): 404"),
        ((403,), "does not take a MailDomain (are the CRDs there?): 403"),
        ((201,), "takes what is no domain name"),
    ],
)
def test_an_api_server_without_the_kinds(
    program: ModuleType, answers: tuple[int, ...], complaint: str | None
) -> None:
    with server(*answers) as (url, asked):
        said = program.wrong(lambda domain: program.answered(url, "token", NO_TLS, "default", domain))
    assert said is None if complaint is None else complaint in said
    assert b"helm-test.example" in asked[0]


@pytest.mark.skipif(helm.find() is None, reason="no helm: install Go, then run python -m tests.support.helm")
def test_what_the_test_makes_ends_with_it() -> None:
    objects = objects_of(template(*SHOWN, *sets(["fullnameOverride=post"])))
    assert {o["kind"] for o in objects} == {
        *("ServiceAccount", "Role", "RoleBinding", "Service", "NetworkPolicy", "Pod")
    }
    for found in objects:
        notes = found["metadata"]["annotations"]
        assert notes["helm.sh/hook"] == "test"
        # Of the pod people want to read the log.
        gone = "before-hook-creation" + ("" if found["kind"] == "Pod" else ",hook-succeeded")
        assert notes["helm.sh/hook-delete-policy"] == gone
        assert found["metadata"]["name"] == "post-test"
    (pod,) = by_name(objects, "Pod").values()
    (policy,) = by_name(objects, "NetworkPolicy").values()
    ((peer,),) = (rule["from"] for rule in policy["spec"]["ingress"])
    assert peer["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["spec"]["containers"]
    compile(container["args"][0], "helm-test.py", "exec")
    # Beside no other policy, one for the test would shut out everybody else meanwhile.
    without = objects_of(template(*SHOWN, *sets(["networkPolicy.enabled=false"])))
    assert not by_name(without, "NetworkPolicy")
