"""Builds the cluster's programs from their Go modules."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster.testcluster.places import CACHE, TOOLS

CERT_MANAGER_KINDS = "cert-manager-kinds"  # folder beside the programs
_MODULES = {
    "kubernetes": "tool",
    "coredns": ".",
    "helm": "tool",
    "pause": ".",
    "certmanager": ".",
    "kuberouter": "tool",
}


def build() -> Path:
    """Return the folder of the programs, all of the versions that go.mod pins; build what is missing.

    The first time takes about ten minutes on two cores.

    Raises:
        subprocess.CalledProcessError: a build failed; Go has said why on standard error.
    """
    folder = CACHE / "programs" / _key()
    folder.mkdir(parents=True, exist_ok=True)
    for module, packages in _MODULES.items():
        ready = folder / f".{module}"
        if not ready.exists():
            print(f"building {module}", file=sys.stderr, flush=True)
            subprocess.run(
                [
                    *("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", _ldflags(module)),
                    *("-o", f"{folder}/", packages),
                ],
                cwd=TOOLS / module,
                env={**os.environ, "CGO_ENABLED": "0"},
                check=True,
            )
            if module == "certmanager":
                _copy_kinds(folder / CERT_MANAGER_KINDS)
            ready.touch()
    return folder


def _copy_kinds(folder: Path) -> None:
    """Put the resources of cert-manager beside its program; they are files of its module."""
    module = ["go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager"]
    found = subprocess.run(module, cwd=TOOLS / "certmanager", stdout=subprocess.PIPE, text=True, check=True)
    folder.mkdir(exist_ok=True)
    for file in Path(found.stdout.strip(), "deploy", "crds").glob("crd-*.yaml"):
        shutil.copyfile(file, folder / file.name)


def _key() -> str:
    digest = hashlib.sha256()
    for module in _MODULES:
        for file in ("go.mod", "go.sum", "main.go"):
            path = TOOLS / module / file
            digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()[:16]


def _ldflags(module: str) -> str:
    flags = "-s -w"
    if module == "kubernetes":  # it reports v0.0.0-master otherwise, which clients refuse to compare
        required = re.search(
            r"k8s\.io/kubernetes v((\d+)\.(\d+)\.\d+)", (TOOLS / module / "go.mod").read_text()
        )
        assert required
        variables = zip(("gitVersion", "gitMajor", "gitMinor"), required.groups(), strict=True)
        for variable, value in variables:
            prefix = "v" if variable == "gitVersion" else ""
            flags += f" -X k8s.io/component-base/version.{variable}={prefix}{value}"
    return flags
