"""The custom resources: one module per kind, from which crds/ is generated.

`load()` refuses what the API server would refuse, in sentences that say what to do.
"""

import difflib
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakValueDictionary

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mail_operator.kinds.mailalias import MailAlias
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.maildomain import MailDomain
from mail_operator.kinds.mailinglist import MailingList
from mail_operator.kinds.mailserver import MailServer
from mail_operator.kinds.meta import (
    API_VERSION,
    QUANTITY,
    Formerly,
    ObjectRef,
    Part,
    Resource,
    models_in,
    repeated,
)
from mail_operator.kinds.relaypolicy import RelayPolicy

__all__ = ["KINDS", "Invalid", "ObjectRef", "Resource", "hints", "load", "pending_fields", "refused_changes"]

KINDS: dict[str, type[Resource]] = {
    "MailServer": MailServer,
    "MailDomain": MailDomain,
    "Mailbox": Mailbox,
    "MailAlias": MailAlias,
    "MailingList": MailingList,
    "RelayPolicy": RelayPolicy,
}


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80


class Invalid(ValueError):
    """A manifest breaks its schema: `problems` holds (field, sentence), the field as spec.targets[0].name."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {message}" for field, message in problems))
        self.problems = problems


def load(document: Mapping[str, Any]) -> Resource:
    """The resource that a manifest describes. Raises Invalid, KeyError for a kind that is not in KINDS."""
    kind = KINDS[document["kind"]]
    if document.get("apiVersion") != API_VERSION:
        raise Invalid([("apiVersion", f"{document.get('apiVersion')!r} is not known: write {API_VERSION}")])
    try:
        resource = kind.model_validate(document)
    except ValidationError as error:
        raise Invalid([_sentence(kind, document, e) for e in error.errors(include_url=False)]) from error
    for _, part in resource:
        if isinstance(part, BaseModel):
            _share(part)  # and not itself: no two have the same spec
    if broken := list(_broken(resource, "")):
        raise Invalid(broken)
    return resource


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


def _set_fields(part: BaseModel) -> Iterator[tuple[str, FieldInfo]]:
    """The fields that were given, in the model's order: a set has another one in each process."""
    return ((name, info) for name, info in type(part).model_fields.items() if name in part.model_fields_set)


def _broken(part: BaseModel, path: str) -> Iterator[tuple[str, str]]:
    """(field, sentence) for what no single field can say. Defaults keep the rules: what was set is seen."""
    for rule in getattr(part, "validations", ()):
        if rule.holds and not rule.holds(part):
            yield _join(path, rule.field), rule.message
    for name, info in _set_fields(part):
        field, value = _join(path, info.alias or name), getattr(part, name)
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
            yield _join(path, rule.field), rule.message
    for name, info in type(new).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, BaseModel) and isinstance(after, BaseModel) and before is not after:
            yield from _refused(before, after, _join(path, info.alias or name))


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path and field else path or field


def _sentence(kind: type[BaseModel], document: Mapping[str, Any], error: Any) -> tuple[str, str]:
    field = ""
    for step in error["loc"]:
        field += f"[{step}]" if isinstance(step, int) else f".{step}" if field else str(step)
    value, context = error.get("input"), error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            known = list(_fields_at(kind, error["loc"][:-1]))
            close = difflib.get_close_matches(str(error["loc"][-1]), known, 1)
            return field, "no such field: " + (f"did you mean {close[0]}?" if close else "remove it")
        case "missing":
            return field, "is missing: add it"
        case "string_pattern_mismatch":
            return (
                field,
                f"{_shown(value)} is not allowed: {_pattern_hint(str(error['loc'][-1]), context['pattern'])}",
            )
        case "string_too_long":
            return field, f"is {len(value)} characters long: at most {context['max_length']} are allowed"
        case "literal_error":
            return field, f"{_shown(value)} is not allowed: write {context['expected']}"
        case "string_type":
            return (
                field,
                f"{_shown(value)} is no string: write one, in quotes where YAML reads something else",
            )
        case "string_too_short":
            return field, f"{_shown(value)} is too short: write at least {context['min_length']} characters"
        case "model_type" | "model_attributes_type" | "dataclass_type" | "dict_type":
            return field, f"{_shown(value)} is not allowed: write its fields below it, one a line"
        case "list_type":
            return field, f"{_shown(value)} is no list: write one, each item behind a dash"
        case "bool_type" | "bool_parsing":
            return field, f"{_shown(value)} is not allowed: write true or false"
        case "int_type" | "int_parsing" | "int_from_float":
            return field, f"{_shown(value)} is no whole number: write one"
        case "value_error":
            return field, f"{_shown(value)}: {context['error']}: correct it"
        case _:
            return field, f"{_shown(value)}: {error['msg'].lower()}"


def _shown(value: object) -> str:
    """A value as a message holds it: short, and of no great depth."""
    return _REPR.repr(value)


def _pattern_hint(field: str, pattern: str) -> str:
    if field == "passwordHash":
        return "begin it with one of Dovecot's schemes in braces, e.g. {BLF-CRYPT}$2y$…"
    if pattern == QUANTITY:
        return "write a quantity of Kubernetes, e.g. 2Gi, 500M or 500m"
    if "@" in pattern:
        return "write an address in lower case, e.g. info@a.test"
    if field in ("localPart", "name"):
        return "write lower-case letters, digits, dots and hyphens, without accents"
    if field in ("domainName", "additionalNames", "domain"):
        return "write a domain in lower case, e.g. a.test, non-ASCII ones as A-labels (xn--…)"
    return f"it must match {pattern}"


def _fields_at(kind: type[BaseModel], path: tuple[Any, ...]) -> Iterator[str]:
    for step in path:
        if isinstance(step, int):
            continue
        info = next(f for name, f in kind.model_fields.items() if step in (f.alias, name))
        inner = next(models_in(info.annotation), None)
        if inner is None:
            return
        kind = inner
    for name, info in kind.model_fields.items():
        yield info.alias or name


def hints(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(field, sentence) of what a manifest says in words of before, which are still taken."""
    return list(_hints(KINDS[document["kind"]], document, ""))


def _hints(kind: type[BaseModel], given: Any, path: str) -> Iterator[tuple[str, str]]:
    for name, info in kind.model_fields.items():
        if not isinstance(given, Mapping) or (info.alias or name) not in given:
            continue
        field, value = _join(path, info.alias or name), given[info.alias or name]
        for word in info.metadata:
            if isinstance(word, Formerly) and word.is_meant(value):
                unquoted = ", which YAML reads as false," if value is False else ""
                yield field, f"{word.old}{unquoted} is taken for {word.new}: write {word.new}"
        if inner := next(models_in(info.annotation), None):
            yield from _hints(inner, value, field)


def pending_fields(resource: Resource) -> list[tuple[str, str]]:
    """(field, requirement) of the fields that were set and whose behaviour comes later."""
    return list(_pending(resource.spec, "spec"))  # type: ignore[attr-defined]


def _pending(part: BaseModel, path: str) -> Iterator[tuple[str, str]]:
    for name, info in _set_fields(part):
        field, value = f"{path}.{info.alias or name}", getattr(part, name)
        extra = info.json_schema_extra
        if isinstance(extra, dict) and "later" in extra:
            if value != info.get_default(call_default_factory=True):
                yield field, str(extra["later"])
        elif isinstance(value, BaseModel):
            yield from _pending(value, field)
