"""Generates crds/ from the models: `python -m mail_operator.kinds.crd` writes what a test compares.

The chart has copies of its own: Helm reads nothing outside of a chart, and some tools drop symbolic links.

A pydantic schema becomes a structural one (Kubernetes: "Specifying a structural schema"): without references,
titles and null, and with the models' validations. The default of a part is written out, since the API server
evaluates validations on it before it has filled in the defaults inside.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from mail_operator.kinds import KINDS
from mail_operator.kinds.meta import GROUP, VERSION, Formerly, Part, Resource, Rule, models_in

ROOT = Path(__file__).parents[3]
CRDS = ROOT / "crds"
CHART_CRDS = ROOT / "charts" / "mailpods" / "files" / "crds"

Schema = dict[str, Any]

# The status of an object that no operator has seen. Without it kstatus takes a new object to be ready, for it
# knows no condition to the contrary; generations begin with 1.
UNSEEN = {"observedGeneration": 0}

_KEPT = (
    "type",
    "format",
    "pattern",
    "enum",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
)


def crd(kind: type[Resource]) -> Mapping[str, Any]:
    """The CustomResourceDefinition of a kind."""
    spec_model, name = kind.model_fields["spec"].annotation, kind.__name__
    assert isinstance(spec_model, type)
    schema: Schema = {
        "type": "object",
        "description": kind.__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "description": name},
            "metadata": {"type": "object"},
            "spec": part_schema(spec_model),
            "status": {**part_schema(kind.status_model), "default": UNSEEN},
        },
    }
    if kind.validations:
        schema["x-kubernetes-validations"] = [_validation(rule) for rule in kind.validations]
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale:
        subresources["scale"] = {
            "specReplicasPath": kind.scale.replicas,
            "statusReplicasPath": kind.scale.observed,
            "labelSelectorPath": kind.scale.selector,
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": kind.plural,
                "singular": name.lower(),
                "shortNames": [kind.short_name],
                "categories": ["mail"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": subresources,
                    "additionalPrinterColumns": list(_columns(kind)),
                }
            ],
        },
    }


def part_schema(part: type[BaseModel]) -> Schema:
    """The structural schema of a part of a manifest."""
    pydantic = part.model_json_schema()
    properties: Schema = {}
    for name, info in part.model_fields.items():
        field = info.alias or name
        own = pydantic["properties"][field]
        inner = next(models_in(info.annotation), None)
        extra = info.json_schema_extra
        schema = _field_schema(own, inner, extra if isinstance(extra, dict) else {})
        if words := [word.old for word in info.metadata if isinstance(word, Formerly)]:
            schema["enum"] = [*schema["enum"], *words]
        schema["description"] = info.description
        if info.is_required():
            pass
        elif isinstance(info.default, BaseModel):
            schema["default"] = _written(info.default.model_dump(by_alias=True, exclude_none=True))
        elif info.default not in (None, [], {}):
            schema["default"] = own["default"]
        properties[field] = schema
    result: Schema = {"type": "object", "description": part.__doc__, "properties": properties}
    if required := [(f.alias or n) for n, f in part.model_fields.items() if f.is_required()]:
        result["required"] = required
    if issubclass(part, Part) and part.validations:
        result["x-kubernetes-validations"] = [_validation(rule) for rule in part.validations]
    return result


def _written(default: Schema) -> Schema:
    """Less what is blank, at any depth."""
    shorter = {k: _written(v) if isinstance(v, dict) else v for k, v in default.items()}
    return {key: value for key, value in shorter.items() if value not in ({}, [])}


def _field_schema(own: Schema, inner: type[BaseModel] | None, extra: Mapping[str, Any] = {}) -> Schema:
    """`extra`: what the field itself adds to its type."""
    own = next((s for s in own.get("anyOf", ()) if s.get("type") != "null"), own)
    if own.get("type") == "array":
        items = part_schema(inner) if inner else _field_schema(own["items"], None)
        return {"type": "array", **_bounds(own), "items": items, **_kubernetes(extra)}
    if inner:
        return part_schema(inner)
    schema = {key: own[key] for key in _KEPT if key in own}
    if "const" in own:  # which structural schemas lack
        schema["enum"] = [own["const"]]
    if isinstance(values := own.get("additionalProperties"), dict):
        schema["additionalProperties"] = _field_schema(values, None)
    schema |= _kubernetes(own)
    if schema.get("type") == "integer":
        schema["format"] = "int32" if schema.get("maximum", 2**31) < 2**31 else "int64"
    if "x-kubernetes-int-or-string" in schema:  # which has no type of its own
        schema.pop("type")
        schema |= {"anyOf": [{"type": "integer"}, {"type": "string"}], "minimum": 0}
    return schema


def _bounds(own: Schema) -> Schema:
    return {key: own[key] for key in ("minItems", "maxItems") if key in own}


def _kubernetes(own: Mapping[str, Any]) -> Schema:
    return {key: value for key, value in own.items() if key.startswith("x-kubernetes-")}


def _validation(rule: Rule) -> Schema:
    validation = {"rule": rule.cel, "message": f"{rule.field} {rule.message}".strip()}
    if rule.field and not rule.field.startswith("metadata."):
        validation["fieldPath"] = f".{rule.field}"
    return validation


def _columns(kind: type[Resource]) -> Iterator[Schema]:
    for column in kind.columns:
        entry: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
        yield {**entry, "priority": 1} if column.wide else entry


class _Dumper(yaml.SafeDumper):
    """Lists indented under their key, and every part written out: a schema is read by people, too."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render(kind: type[Resource]) -> str:
    """The file of a kind."""
    return yaml.dump(
        crd(kind), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True, explicit_start=True
    )


def files() -> dict[str, str]:
    """Each file's name in crds/ and in the chart, and its text."""
    return {f"{kind.plural}.yaml": render(kind) for kind in KINDS.values()}


if __name__ == "__main__":
    for folder in (CRDS, CHART_CRDS):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files().items():
            (folder / name).write_text(text)
