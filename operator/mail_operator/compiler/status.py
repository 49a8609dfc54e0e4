"""The status of a custom resource: its conditions, without times, and what a person wants to see."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from mail_operator.kinds import Resource, pending_fields
from mail_operator.kinds.values import LONGEST_MESSAGE
from mail_operator.policies.verdict import Verdict

Condition = dict[str, Any]
COMPONENTS_READY = "ComponentsReady"  # of a MailServer: whether all its pods are ready now


def condition(type_: str, status: bool | None, reason: str, message: str) -> Condition:
    """One condition; None is Unknown."""
    return condition_of(type_, {True: "True", False: "False", None: "Unknown"}[status], reason, message)


def condition_of(type_: str, status: str, reason: str, message: str) -> Condition:
    """The same, by the word. A message that is longer than the API takes is cut."""
    return {"type": type_, "status": status, "reason": reason, "message": message[:LONGEST_MESSAGE]}


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
    return status_of(resource.metadata.generation, conditions, shown)


def status_of(
    generation: int | None, conditions: list[Condition], shown: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The whole status of an object of this generation."""
    return {
        **{key: value for key, value in shown.items() if value is not None},
        **_observed(generation),
        "conditions": _of_generation(tuple(tuple(entry.values()) for entry in conditions), generation),
    }


def _observed(generation: int | None) -> dict[str, int]:
    return {} if generation is None else {"observedGeneration": generation}


@lru_cache(1000)  # most objects are well, in the same words, and share these
def _of_generation(conditions: tuple[tuple[str, ...], ...], generation: int | None) -> list[Condition]:
    return [{**condition_of(*values), **_observed(generation)} for values in conditions]


def ready_of(status: Mapping[str, Any]) -> Condition | None:
    """The Ready condition of a status, if it has one yet."""
    return next((c for c in status["conditions"] if c["type"] == "Ready"), None)


def hindrance_of(status: Mapping[str, Any]) -> str:
    """What a person should know first of an object that is not well, "" if it is."""
    told = [c for c in status["conditions"] if c["type"] in ("Ready", COMPONENTS_READY)]
    # Of pods that are not there ComponentsReady says more than that something waits for them.
    order = sorted(told, key=lambda c: (c["status"] != "False", c["type"] != COMPONENTS_READY))
    return next((f"{c['reason']}: {c['message']}" for c in order if c["status"] != "True"), "")


def withheld(status: Mapping[str, Any], why: str = "") -> Mapping[str, Any]:
    """The same, with Ready held back until the pods have loaded what makes it true, or serve at all."""
    message = f"This waits for pods: {why}." if why else "The pods are taking this up."
    conditions = [
        {**c, "status": "Unknown", "reason": "Propagating", "message": message}
        if c["type"] == "Ready" and c["status"] == "True"
        else c
        for c in status["conditions"]
    ]
    return {**status, "conditions": conditions}


def overruled(status: Mapping[str, Any], verdict: Verdict) -> Mapping[str, Any]:
    """The same, where something is known that compile() is not told: Ready is False, and says why."""
    generation = (
        {"observedGeneration": status["observedGeneration"]} if "observedGeneration" in status else {}
    )
    refused = {**condition("Ready", False, verdict.reason, verdict.message), **generation}
    conditions = [refused if c["type"] == "Ready" else c for c in status["conditions"]]
    return {**status, "conditions": conditions}


def invalid_status(problems: Sequence[tuple[str, str]], generation: int) -> Mapping[str, Any]:
    """The status of a resource that this version cannot read; (field, sentence) say why."""
    end = ". Its last valid version, if any, stays in force."
    message = "; ".join(f"{field}: {sentence}" for field, sentence in problems)[: LONGEST_MESSAGE - len(end)]
    conditions = ready(Verdict("Invalid", message + end), "")
    return {
        "observedGeneration": generation,
        "conditions": [{**each, "observedGeneration": generation} for each in conditions],
    }
