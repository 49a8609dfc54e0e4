"""A pod's volumes as folders: Secrets and ConfigMaps as files, claims under a name of their own."""

import base64
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mail_operator.local.files import make_folder, write_atomically

Manifest = Mapping[str, Any]
Objects = Mapping[tuple[str, str], Manifest]  # (kind, name) of one namespace's Secrets and ConfigMaps


def content(manifest: Manifest) -> dict[str, bytes]:
    """The files of a Secret or ConfigMap."""
    files = {key: text.encode() for key, text in manifest.get("stringData", {}).items()}
    decode = _from_base64 if manifest["kind"] == "Secret" else str.encode
    files |= {key: decode(value) for key, value in manifest.get("data", {}).items()}
    return files


def _from_base64(text: str) -> bytes:
    """As the API server reads it: line breaks are skipped, anything else that is foreign is an error."""
    return base64.b64decode("".join(text.split()), validate=True)


def files_of(volume: Manifest, objects: Objects) -> dict[str, bytes] | None:
    """The files that a `secret`, `configMap` or `projected` volume holds; None for other volumes.

    What is marked optional and absent is left out, as the kubelet does; what is not raises KeyError.
    """
    if "secret" in volume:
        return dict(_source("Secret", volume["secret"], "secretName", objects))
    if "configMap" in volume:
        return dict(_source("ConfigMap", volume["configMap"], "name", objects))
    if "projected" in volume:
        files: dict[str, bytes] = {}
        for source in volume["projected"]["sources"]:
            if "secret" in source:
                files.update(_source("Secret", source["secret"], "name", objects))
            elif "configMap" in source:
                files.update(_source("ConfigMap", source["configMap"], "name", objects))
        return files
    return None


def _source(kind: str, source: Manifest, key: str, objects: Objects) -> Iterator[tuple[str, bytes]]:
    manifest = objects.get((kind, source[key]))
    if manifest is None:
        if source.get("optional"):
            return
        raise KeyError(f"{kind} {source[key]}")
    files = content(manifest)
    if "items" in source:
        for item in source["items"]:
            if item["key"] in files or not source.get("optional"):
                yield item["path"], files[item["key"]]
    else:
        yield from files.items()


def write_volume(folder: Path, files: Mapping[str, bytes], owner: int | None) -> bool:
    """Make the folder hold just these files. Returns whether anything changed."""
    make_folder(folder, owner)
    changed = False
    for name, data in files.items():
        changed |= write_atomically(folder / name, data, owner=owner)
    for stale in folder.iterdir():
        if stale.name not in files and not stale.name.startswith("."):
            stale.unlink()
            changed = True
    return changed


def empty_folder(folder: Path, owner: int | None) -> Path:
    """An emptyDir: what a former run of the pod left in it is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    return make_folder(folder, owner)
