"""What is worth a remark in a manifest that is valid: words of before, and fields without effect."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from mail_operator.kinds.meta import Formerly, Resource, join, models_in, set_fields
from mail_operator.kinds.table import KINDS


def hints(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(field, sentence) of what a manifest says in words of before, which are still taken."""
    return list(_hints(KINDS[document["kind"]], document, ""))


def _hints(kind: type[BaseModel], given: Any, path: str) -> Iterator[tuple[str, str]]:
    for name, info in kind.model_fields.items():
        if not isinstance(given, Mapping) or (info.alias or name) not in given:
            continue
        field, value = join(path, info.alias or name), given[info.alias or name]
        for word in info.metadata:
            if isinstance(word, Formerly) and word.is_meant(value):
                unquoted = ", which YAML reads as false," if value is False else ""
                yield field, f"{word.old}{unquoted} is taken for {word.new}: write {word.new}"
        if inner := next(models_in(info.annotation), None):
            yield from _hints(inner, value, field)


def pending_fields(resource: Resource) -> list[tuple[str, str]]:
    """(field, requirement) of the fields that were set and whose behaviour comes later."""
    unknown = [(field, "not known to this version") for field in resource.unknown]
    return [*unknown, *_pending(resource.spec, "spec")]  # type: ignore[attr-defined]


def _pending(part: BaseModel, path: str) -> Iterator[tuple[str, str]]:
    for name, info in set_fields(part):
        field, value = f"{path}.{info.alias or name}", getattr(part, name)
        extra = info.json_schema_extra
        if isinstance(extra, dict) and "later" in extra:
            if value != info.get_default(call_default_factory=True):
                yield field, str(extra["later"])
        elif isinstance(value, BaseModel):
            yield from _pending(value, field)
