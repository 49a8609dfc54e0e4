"""Reads manifests from files and folders, again when they change, document by document.

A file that cannot be read keeps the objects that it held, and so does one of which a document cannot be
parsed, or that became empty, as in the middle of being saved; an object that became invalid keeps its last
valid version. All are told as problems. What is silently taken away is only what the user took away, and
never the last of a folder.
"""

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any

import yaml

from mail_operator.kinds import KINDS
from mail_operator.kinds.meta import GROUP

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)  # at column 0 always a document's start (YAML 1.1 §9)


_YAML = "tag:yaml.org,2002:"


class _Loader(yaml.CSafeLoader):
    """PyYAML's loader, with texts where kubectl's has texts: a date is one, and so is 1:30.

    A key given twice is an error: the second would silently win. What a merge key brings is overridden
    (YAML 1.1, "Merge Key Language-Independent Type").
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._flat = set[int]()  # mappings into which the merge keys were written

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        is_number = tag in (f"{_YAML}int", f"{_YAML}float")
        return f"{_YAML}str" if tag == f"{_YAML}timestamp" or (is_number and ":" in value) else tag

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if id(node) in self._flat:
            return
        self._flat.add(id(node))
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != f"{_YAML}merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value!r} stands twice: remove one", key.start_mark
                    )
                seen.add(key.value)
        super().flatten_mapping(node)


@dataclass(frozen=True)
class Problem:
    """What is wrong, where, for a person. `line` counts from 1; `field` is '' where none is to blame."""

    file: Path
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: " + (f"{self.field}: " if self.field else "") + self.message


@dataclass(frozen=True)
class Document:
    """One manifest, and where the YAML document begins (line, from 1) that holds it."""

    file: Path
    line: int
    text: str
    content: Mapping[str, Any]
    within: str = ""  # of a list of objects: items[0]

    def line_of(self, path: str) -> int:
        """The line of a field given as `spec.targets[0].address`, or of its nearest existing parent."""
        node = yaml.compose(self.text, Loader=yaml.CSafeLoader)
        line = self.line
        for step in re.findall(r"[^.\[\]]+", f"{self.within}.{path}"):
            found: tuple[int, yaml.Node] | None = None
            if isinstance(node, yaml.MappingNode):
                found = next(((k.start_mark.line, v) for k, v in node.value if k.value == step), None)
            elif isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
                item = node.value[int(step)]
                found = (item.start_mark.line, item)
            if found is None:
                break
            line, node = self.line + found[0], found[1]
        return line


@dataclass
class _File:
    stamp: tuple[int, int, int] | None = None
    documents: list[Document] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)


class Manifests:
    """The documents of some files and folders (with their subfolders: *.yaml, *.yml, *.json).

    Of kinds that others take care of there is none: `skipped` names them.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self._files: dict[Path, _File] = {}
        self._missing: list[Problem] = []

    def refresh(self) -> bool:
        """Read what changed. Returns whether documents or problems may have changed. Never raises OSError."""
        self._missing = []
        listed: set[Path] = set()
        for path in self.paths:
            try:
                listed.update(_listing(path))
            except OSError as error:
                # What was read from below it stays: a folder that is unmounted for a moment loses nothing.
                self._missing.append(Problem(path, 1, "", f"cannot be read: {error.strerror}"))
                listed.update(file for file in self._files if path in (file, *file.parents))
        changed = False
        kept = set[Path]()
        for path in self.paths:
            held = {f for f, entry in self._files.items() if entry.documents and path in (f, *f.parents)}
            if held and not any(path in (file, *file.parents) for file in listed):
                self._missing.append(Problem(path, 1, "", _EMPTY))
                kept |= held
        for file in [file for file in self._files if file not in listed | kept]:
            del self._files[file]
            changed = True
        for file in sorted(listed):
            changed |= self._read(file)
        return changed

    def _read(self, path: Path) -> bool:
        entry = self._files.setdefault(path, _File())
        try:
            stat = path.stat()
            if not S_ISREG(stat.st_mode):  # a pipe would hold us up until somebody writes into it
                entry.skipped = [Problem(path, 1, "", "is no regular file: skipped")]
                return False
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if stamp == entry.stamp:
                return False
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else f"is not UTF-8: {error.reason}"
            problems = [Problem(path, 1, "", f"cannot be read: {reason}")]
            changed = entry.problems != problems
            entry.problems, entry.stamp = problems, None
            return changed
        entry.stamp = stamp
        known: dict[str, list[Document]] = {}
        for document in entry.documents:
            same = known.setdefault(document.text, [])
            if not same or same[0].line == document.line:
                same.append(document)
        documents: list[Document] = []
        problems, entry.skipped = [], []
        for line, part in _split(text):
            try:
                # What did not change keeps its content, wherever it went.
                found = [replace(each, line=line) for each in known.get(part, ())]
                documents += found or _parse(path, line, part)
            except _Unparsable as error:
                problems.append(error.problem)
        if not documents and not problems and entry.documents:
            problems.append(Problem(path, 1, "", "is empty: what it held stays until it is deleted"))
        if problems:
            # Who knows which of the old ones the broken one was: all stay that do not stand there anew.
            there = {_name(document) for document in documents}
            documents += [document for document in entry.documents if _name(document) not in there]
        entry.documents, entry.problems = documents, problems
        return True

    @property
    def documents(self) -> Iterator[Document]:
        """All documents that are ours, in order of file name and line."""
        return (each for each in self._all if not _is_foreign(each.content))

    @property
    def _all(self) -> Iterator[Document]:
        return (each for path in sorted(self._files) for each in self._files[path].documents)

    @property
    def problems(self) -> list[Problem]:
        """Files and folders that cannot be read or parsed."""
        return [*self._missing, *(p for path in sorted(self._files) for p in self._files[path].problems)]

    @property
    def skipped(self) -> list[Problem]:
        """What is none of our concern, each with a sentence that says so."""
        notes = [note for path in sorted(self._files) for note in self._files[path].skipped]
        for each in self._all:
            if _is_foreign(each.content):
                kind = f"{each.content['kind']} ({each.content['apiVersion']})"
                text = f"{kind} is none of mail's kinds: skipped"
                notes.append(Problem(each.file, each.line_of("kind"), "kind", text))
        return notes


_EMPTY = "no manifest is left here: nothing was changed; put one back, or start without this folder"


def _name(document: Document) -> tuple[str, str, str]:
    meta = document.content.get("metadata") or {}
    return str(document.content.get("kind")), str(meta.get("namespace")), str(meta.get("name"))


class _Unparsable(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


def _listing(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        path.stat()
        yield path
        return

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(path, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.endswith((".yaml", ".yml", ".json")) and not name.startswith("."):
                yield Path(folder, name)


def _split(text: str) -> Iterator[tuple[int, str]]:
    """The documents' texts with the line on which each begins, so that an edit parses one, not thousands."""
    starts = [0, *(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    line = 1
    for begin, end in itertools.pairwise(starts):
        part = text[begin:end]
        yield line, part
        line += part.count("\n")


def _parse(path: Path, line: int, text: str) -> list[Document]:
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = getattr(error, "problem", None) or str(error)
        at = line + mark.line if mark else line
        raise _Unparsable(Problem(path, at, "", f"is not YAML: {message}")) from error
    except (ValueError, RecursionError) as error:  # of an impossible date, or of depths without end
        raise _Unparsable(Problem(path, line, "", f"cannot be read: {error}")) from error
    return list(_objects(Document(path, line, text, content))) if content is not None else []


def _objects(document: Document) -> Iterator[Document]:
    """The document, or what it lists, as `kubectl get -o yaml` writes it and `kubectl apply` takes it."""
    content = document.content
    if not isinstance(content, dict):
        raise _Unparsable(Problem(document.file, document.line_of(""), "", _NO_MANIFEST))
    if str(content.get("kind", "")).endswith("List") and isinstance(items := content.get("items"), list):
        for n, item in enumerate(items):
            yield from _objects(replace(document, content=item, within=f"{document.within}.items[{n}]"))
    elif _is_foreign(content) or isinstance(content.get("metadata"), dict):
        yield document
    else:
        raise _Unparsable(Problem(document.file, document.line_of(""), "", _NO_MANIFEST))


_NO_MANIFEST = "is no manifest: give apiVersion, kind, metadata"


def _is_foreign(content: Mapping[str, Any]) -> bool:
    """Whether it is of another API: of its own, and of core those that are read here, are ours to judge."""
    kind, version = content.get("kind"), content.get("apiVersion")
    if not (isinstance(kind, str) and isinstance(version, str)) or kind in KINDS:
        return False
    return not version.startswith(f"{GROUP}/") and (version, kind) not in _CORE


_CORE = (("v1", "Secret"), ("v1", "Namespace"))
