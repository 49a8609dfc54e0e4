"""Why a field of a manifest is refused, and what to write: one sentence for each kind of mistake."""

import difflib
import reprlib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from mail_operator.kinds.meta import models_in
from mail_operator.kinds.values import QUANTITY

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80


def sentence(kind: type[BaseModel], error: Any) -> tuple[str, str]:
    """(field, sentence) for an error that pydantic found."""
    field = name_of(error["loc"])
    value, context = error.get("input"), error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            parts = model_at(kind, error["loc"][:-1]).model_fields
            known = [info.alias or name for name, info in parts.items()]
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


def name_of(path: Sequence[int | str]) -> str:
    """A field as people write it: spec.targets[0].name."""
    field = ""
    for step in path:
        field += f"[{step}]" if isinstance(step, int) else f".{step}" if field else step
    return field


def model_at(kind: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """The model of the part at such a path."""
    for step in path:
        if not isinstance(step, int):
            info = next(f for name, f in kind.model_fields.items() if step in (f.alias, name))
            kind = next(models_in(info.annotation), kind)
    return kind
