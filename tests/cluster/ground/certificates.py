"""Keys and certificates of the control plane, made by openssl."""

from pathlib import Path

from tests.cluster.ground.places import API_PORT, API_SERVICE, CERTIFICATES, NODE
from tests.cluster.ground.processes import run, write

# name -> subject
_CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "kubelet": "/O=system:nodes/CN=system:node:node",
    "kube-proxy": "/CN=system:kube-proxy",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "coredns": "/O=system:masters/CN=coredns",
}
_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


def make() -> None:
    """All of them, once."""
    if (CERTIFICATES / "ready").exists():
        return
    CERTIFICATES.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca, key = str(CERTIFICATES / "ca.crt"), str(CERTIFICATES / "ca.key")
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365", "-subj", "/CN=cluster")
    run("openssl", "genrsa", "-out", str(CERTIFICATES / "accounts.key"), "2048")
    names = ",".join([*(f"DNS:{n}" for n in _NAMES), f"IP:{NODE}", f"IP:{API_SERVICE}", "IP:127.0.0.1"])
    _signed("apiserver", "/CN=kube-apiserver", ca, key, f"subjectAltName={names}\n")
    for name, subject in _CLIENTS.items():
        _signed(name, subject, ca, key, "extendedKeyUsage=clientAuth\n")
    (CERTIFICATES / "ready").touch()


def _openssl(*arguments: str) -> None:
    run("openssl", *arguments, "-keyout", str(CERTIFICATES / "ca.key"), "-out", str(CERTIFICATES / "ca.crt"))


def _signed(name: str, subject: str, ca: str, ca_key: str, extensions: str) -> None:
    base = CERTIFICATES / name
    request, extra = f"{base}.csr", write(Path(f"{base}.ext"), extensions)
    run(
        "openssl",
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        subject,
        "-keyout",
        f"{base}.key",
        "-out",
        request,
    )
    sign = ["openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial"]
    run(*sign, "-days", "365", "-extfile", str(extra), "-out", f"{base}.crt")


def kubeconfig(path: Path, name: str) -> Path:
    """A kubeconfig of one of the clients."""
    base = CERTIFICATES / name
    return write(
        path,
        f"""apiVersion: v1
kind: Config
clusters:
  - name: c
    cluster: {{server: "https://{NODE}:{API_PORT}", certificate-authority: {CERTIFICATES}/ca.crt}}
users: [{{name: u, user: {{client-certificate: {base}.crt, client-key: {base}.key}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
current-context: c
""",
    )
