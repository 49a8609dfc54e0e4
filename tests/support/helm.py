"""Helm for tests and config/: `python -m tests.support.helm` builds what is missing, and says where it is.

It is built from its Go module, pinned in tests/cluster/tools/helm, into the cache folder. Where it was not
built, a Helm 3 on the PATH serves.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "mailpods"
_MODULE = ROOT / "tests" / "cluster" / "tools" / "helm"
KUBERNETES = "1.34"  # of which helm takes a cluster to be that it cannot ask


class HelmError(Exception):
    """What Helm said when it failed."""


def version() -> str:
    """The pinned version: v3.…"""
    found = re.search(r"helm\.sh/helm/v3 (v\S+)", (_MODULE / "go.mod").read_text())
    assert found
    return found[1]


def _built() -> Path:
    cache = os.environ.get("MAILPODS_CACHE", "/var/cache/mailpods")
    return Path(cache) / "bin" / f"helm-{version()}-kubernetes-{KUBERNETES}"


def find() -> str | None:
    """The program, if it is here already."""
    if (built := _built()).exists():
        return str(built)
    other = shutil.which("helm")
    if other and subprocess.run([other, "version", "--short"], capture_output=True).stdout.startswith(b"v3."):
        return other
    return None


def build() -> None:
    """Build the pinned version, with patience for others. Raises FileNotFoundError where there is no Go."""
    built, source = _built(), "helm.sh/helm/v3"
    major, minor = KUBERNETES.split(".")
    variables = {
        f"{source}/internal/version.version": version(),
        f"{source}/pkg/chartutil.k8sVersionMajor": major,
        f"{source}/pkg/chartutil.k8sVersionMinor": minor,
        f"{source}/pkg/lint/rules.k8sVersionMajor": major,
        f"{source}/pkg/lint/rules.k8sVersionMinor": minor,
    }
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in variables.items())])
    built.parent.mkdir(parents=True, exist_ok=True)
    unfinished = built.with_name(f"{built.name}.{os.getpid()}")
    command = ["go", "build", "-trimpath", "-ldflags", flags, "-o", str(unfinished), f"{source}/cmd/helm"]
    subprocess.run(
        ["nice", *command],
        check=True,
        cwd=_MODULE,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdout=sys.stderr,
    )
    unfinished.replace(built)


def helm(*arguments: str) -> str:
    """What Helm prints. Raises HelmError with what it complains of."""
    program = find()
    if program is None:
        raise HelmError("no helm: install Go, then run python -m tests.support.helm")
    # Of the user's own repositories and plugins it shall know nothing.
    env = {k: v for k, v in os.environ.items() if not k.startswith("HELM_")} | {"KUBECONFIG": os.devnull}
    done = subprocess.run([program, *arguments], capture_output=True, text=True, env=env)
    if done.returncode:
        raise HelmError(done.stderr + done.stdout)
    return done.stdout


def template(*arguments: str, release: str = "mailpods", namespace: str = "mailpods-system") -> str:
    """The manifests of the chart, as text."""
    return helm("template", release, str(CHART), "--namespace", namespace, *arguments)


def sets(values: Sequence[str]) -> list[str]:
    """Arguments for values as a.b=c."""
    return [argument for value in values for argument in ("--set", value)]


def main() -> int:
    """Build what is missing."""
    if find() is None:
        if shutil.which("go") is None:
            print("no Go here, so no helm: tests of the chart are skipped", file=sys.stderr)
            return 0
        print(f"building helm {version()} (minutes, once)", file=sys.stderr)
        try:
            build()
        except subprocess.CalledProcessError as error:
            print(f"helm was not built: {error}", file=sys.stderr)
            return 1
    print(find())
    return 0


if __name__ == "__main__":
    sys.exit(main())
