"""What an API server thinks of our CustomResourceDefinitions and of objects, by its own code.

tests/cluster/tools/schema asks that: schema, list types, CEL, and what CEL may cost.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mail_operator.kinds import KINDS
from mail_operator.kinds.crd import crd

from tests.support import gotools

Document = Mapping[str, Any]


def judge(
    cases: Sequence[tuple[Document, Document | None]], kubernetes: str = "1.31"
) -> tuple[list[str], list[list[str]]]:
    """What stands against the definitions, and against each object (and the one that it replaces).

    `kubernetes`: its version; what only a later one understands stands against a definition.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for kind in KINDS.values():
            file = Path(folder) / f"{kind.plural}.json"
            file.write_text(json.dumps(crd(kind)))
            files.append(str(file))
        asked = json.dumps([{"object": new, "old": old} for new, old in cases])
        said = json.loads(gotools.ask("schema", kubernetes, *files, text=asked))
    faults = [f"{Path(file).stem}: {fault}" for file, found in said["definitions"].items() for fault in found]
    return faults, said["cases"]


def refusals(*documents: Document) -> list[list[str]]:
    """What stands against the creation of each object."""
    return judge([(document, None) for document in documents])[1]


def refused_update(old: Document, new: Document) -> list[str]:
    """What stands against an update."""
    return judge([(new, old)])[1][0]
