"""Reads a manifest: what its schema refuses, and what its kind's rules do, of one and of a change."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

from pydantic import BaseModel, ValidationError

from mail_operator.kinds.meta import API_VERSION, Part, Resource, join, repeated, set_fields
from mail_operator.kinds.sentences import model_at, name_of, sentence
from mail_operator.kinds.table import KINDS


class Invalid(ValueError):
    """A manifest breaks its schema: `problems` holds (field, sentence), the field as spec.targets[0].name."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {message}" for field, message in problems))
        self.problems = problems


def load(document: Mapping[str, Any], *, lenient: bool = False) -> Resource:
    """The resource that a manifest describes. Raises Invalid, KeyError for a kind that is not in KINDS.

    `lenient`: fields of a later version are left out, and kept as `Resource.unknown`. Where those narrow what
    others say, as one more criterion of a rule does, nothing is left out.
    """
    kind = KINDS[document["kind"]]
    if document.get("apiVersion") != API_VERSION:
        raise Invalid([("apiVersion", f"{document.get('apiVersion')!r} is not known: write {API_VERSION}")])
    try:
        resource = kind.model_validate(document)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        unknown = [fault["loc"] for fault in faults if fault["type"] == "extra_forbidden"]
        if lenient and unknown and all(_may_lack(model_at(kind, path[:-1])) for path in unknown):
            resource = load(_without(document, unknown))
            resource._unknown = tuple(name_of(path) for path in unknown)
            return resource
        raise Invalid([sentence(kind, fault) for fault in faults]) from error
    for _, part in resource:
        if isinstance(part, BaseModel):
            _share(part)  # and not itself: no two have the same spec
    if broken := list(_broken(resource, "")):
        raise Invalid(broken)
    return resource


def _may_lack(part: type[BaseModel]) -> bool:
    return issubclass(part, Part) and part.readable_in_part


def _without(document: Mapping[str, Any], unknown: Sequence[tuple[int | str, ...]]) -> Mapping[str, Any]:
    less = copy.deepcopy(dict(document))
    for path in unknown:
        part: Any = less
        for step in path[:-1]:
            part = part[step]
        del part[path[-1]]
    return less


_parts: WeakValueDictionary[tuple[type[BaseModel], str], BaseModel] = WeakValueDictionary()
_field_sets: dict[frozenset[str], set[str]] = {}


def _share(part: BaseModel) -> None:
    """Let equal parts of resources be one object: of ten thousand mailboxes, most have the same services."""
    given = part.model_fields_set
    object.__setattr__(part, "__pydantic_fields_set__", _field_sets.setdefault(frozenset(given), given))
    for name, value in part:
        if isinstance(value, BaseModel):
            _share(value)
            if isinstance(value, Part):
                key = type(value), value.model_dump_json(exclude_unset=True)
                part.__dict__[name] = _parts.setdefault(key, value)


def _broken(part: BaseModel, path: str) -> Iterator[tuple[str, str]]:
    """(field, sentence) for what no single field can say. Defaults keep the rules: what was set is seen."""
    for rule in getattr(part, "validations", ()):
        if rule.holds and not rule.holds(part):
            yield join(path, rule.field), rule.message
    for name, info in set_fields(part):
        field, value = join(path, info.alias or name), getattr(part, name)
        if isinstance(value, BaseModel):
            yield from _broken(value, field)
        elif isinstance(value, list):
            for n, key in repeated(info.json_schema_extra or {}, value):  # type: ignore[arg-type]
                yield f"{field}[{n}]", f"{key!r} stands there twice: remove one"
            for n, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from _broken(item, f"{field}[{n}]")


def refused_changes(old: Resource, new: Resource) -> list[tuple[str, str]]:
    """(field, sentence) for each rule about changes that an update breaks, as the API server says it."""
    return list(_refused(old, new, ""))


def _refused(old: BaseModel, new: BaseModel, path: str) -> Iterator[tuple[str, str]]:
    for rule in getattr(new, "validations", ()):
        if rule.admits and not rule.admits(old, new):
            yield join(path, rule.field), rule.message
    for name, info in type(new).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, BaseModel) and isinstance(after, BaseModel) and before is not after:
            yield from _refused(before, after, join(path, info.alias or name))
