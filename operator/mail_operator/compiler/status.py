"""The status of a custom resource: its conditions, without times, and what a person wants to see."""

from collections.abc import Mapping
from typing import Any

from mail_operator.policies.verdict import Verdict
from mail_operator.resources import Resource, pending_fields

Condition = dict[str, Any]


def condition(type_: str, status: bool | None, reason: str, message: str) -> Condition:
    """One condition; None is Unknown."""
    text = {True: "True", False: "False", None: "Unknown"}[status]
    return {"type": type_, "status": text, "reason": reason, "message": message}


def ready(verdict: Verdict | None, message: str) -> list[Condition]:
    """Ready, and Stalled where nothing but an edit of this very object helps (kstatus)."""
    if verdict is None:
        return [condition("Ready", True, "Serving", message)]
    conditions = [condition("Ready", None if verdict.soon else False, verdict.reason, verdict.message)]
    if not verdict.waits:
        conditions.append(condition("Stalled", True, verdict.reason, verdict.message))
    return conditions


def status(resource: Resource, conditions: list[Condition], shown: Mapping[str, Any]) -> Mapping[str, Any]:
    """The whole status. `shown` are the fields beside the conditions; those that are None are left out."""
    if ignored := pending_fields(resource):
        fields = ", ".join(f"{field} ({requirement})" for field, requirement in ignored)
        message = f"Set, and without effect in this version: {fields}."
        conditions = [*conditions, condition("FieldsIgnored", True, "NotYet", message)]
    generation = resource.metadata.generation
    observed = {} if generation is None else {"observedGeneration": generation}
    return {
        **{key: value for key, value in shown.items() if value is not None},
        **observed,
        "conditions": [{**entry, **observed} for entry in conditions],
    }


def ready_of(status: Mapping[str, Any]) -> Condition | None:
    """The Ready condition of a status, if it has one yet."""
    return next((c for c in status["conditions"] if c["type"] == "Ready"), None)
