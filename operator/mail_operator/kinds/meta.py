"""What all kinds share: references, metadata, conditions, and the types of their fields."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PrivateAttr,
)
from pydantic.alias_generators import to_camel, to_snake
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_before_validator_function

from mail_operator.kinds.values import Generation, LongText, Name, Text, quantity_bytes

GROUP = "mailpods.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class ObjectRef(NamedTuple):
    """Names an object of any kind."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Rule(NamedTuple):
    """What the schema of one field cannot say: in CEL for the API server, in Python for everyone else.

    `field` is where the message stands, relative to the part that has the rule ("" for the part itself).
    A rule about a change compares self with oldSelf: instead of `holds` it has `admits`, of the old part and
    the new one.
    """

    field: str
    message: str
    cel: str
    holds: Callable[[Any], bool] | None = None
    admits: Callable[[Any, Any], bool] | None = None


def immutable(field: str, *, blank_may_be_filled: bool = False) -> Rule:
    """The field keeps its value for good; where it is blank, somebody may still fill it in once."""
    kept = f"has(self.{field}) && self.{field} == oldSelf.{field}"
    blank = "true" if blank_may_be_filled else f"!has(self.{field})"
    cel = f"has(oldSelf.{field}) ? {kept} : {blank}"

    def admits(old: Any, new: Any) -> bool:
        before, after = getattr(old, to_snake(field)), getattr(new, to_snake(field))
        return bool(before == after or (before is None and blank_may_be_filled))

    return Rule(field, "cannot be changed: create a new object", cel, admits=admits)


def grows_only(field: str) -> Rule:
    """A quantity that may become more, as a volume may."""

    def admits(old: Any, new: Any) -> bool:
        before, after = getattr(old, to_snake(field)), getattr(new, to_snake(field))
        return quantity_bytes(after) >= quantity_bytes(before)

    cel = f"quantity(string(self.{field})).compareTo(quantity(string(oldSelf.{field}))) >= 0"
    return Rule(field, "cannot shrink, for volumes cannot: write what it was, or more", cel, admits=admits)


class Part(BaseModel):
    """A part of a manifest: camelCase in YAML, unknown fields refused, never changed."""

    validations: ClassVar[tuple[Rule, ...]] = ()
    readable_in_part: ClassVar[bool] = True  # less a later version's fields, it says no more

    # strict: "7" is no number and 1 no truth value, for the API server, too.
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, strict=True
    )


# What kind of list a field holds, which decides how those of several managers are merged (Kubernetes: "Merge
# strategy"); every list says it. Rules are maps by name although they have an order, as init containers have.
_TYPE = "x-kubernetes-list-type"
SET: dict[str, Any] = {_TYPE: "set"}
BY_NAME: dict[str, Any] = {_TYPE: "map", "x-kubernetes-list-map-keys": ["name"]}
BY_TYPE: dict[str, Any] = {_TYPE: "map", "x-kubernetes-list-map-keys": ["type"]}
SEQUENCE: dict[str, Any] = {_TYPE: "atomic"}  # of one piece, its order matters
_ONCE = {"rule": "self.all(x, self.exists_one(y, x == y))", "message": "holds something twice: remove one"}
RANKING: dict[str, Any] = {**SEQUENCE, "x-kubernetes-validations": [_ONCE]}  # the same, each but once


def repeated(kind: Mapping[str, Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """(index, key) of the items that such a list must not hold again."""
    if kind.get(_TYPE) == "atomic" and "x-kubernetes-validations" not in kind:
        return
    (by,) = kind.get("x-kubernetes-list-map-keys", [None])
    seen = set()
    for n, item in enumerate(items):
        key = getattr(item, by) if by else item
        if key in seen:
            yield n, key
        seen.add(key)


class Formerly(NamedTuple):
    """Marks a field of words: `old` is still taken for `new`, and so is what YAML makes of a bare `off`."""

    old: str
    new: str

    def is_meant(self, value: object) -> bool:
        """Whether a value is the old word."""
        return value == self.old or (value is False and self.old == "off")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: object) -> object:
            return self.new if self.is_meant(value) else value

        return no_info_before_validator_function(read, handler(source))


def later(requirement: str) -> dict[str, Any]:
    """Marks a field whose behaviour comes later: `mailpods check` and the FieldsIgnored condition name it."""
    return {"later": requirement}


def _name_is_local_part(resource: Any) -> bool:
    return bool(resource.spec.local_part) or len(resource.metadata.name) <= 64


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field's annotation speaks of: of `list[Target] | None`, Target."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from models_in(inner)


def set_fields(part: BaseModel) -> Iterator[tuple[str, FieldInfo]]:
    """The fields that were given, in the model's order: a set has another one in each process."""
    return ((name, info) for name, info in type(part).model_fields.items() if name in part.model_fields_set)


def join(path: str, field: str) -> str:
    """A field below a path."""
    return f"{path}.{field}" if path and field else path or field


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="ignore", alias_generator=to_camel))
class Metadata:
    """The parts of metadata that matter here; the rest is the API server's.

    With slots, unlike models: an operator holds ten thousand of them.
    """

    name: Name
    namespace: str = "default"
    generation: int | None = None
    creation_timestamp: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


class LocalRef(Part):
    """An object of the same namespace."""

    name: Name = Field(description="Name of the object, in the same namespace.")


class ServerRef(Part):
    """A MailServer, in this namespace if none is named."""

    name: Name = Field(description="Name of the MailServer.")
    namespace: Name | None = Field(None, description="Its namespace; this object's own if blank.")


_WORD = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_PREFIX = r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
ConditionType = Annotated[str, Field(max_length=316, pattern=f"^{_PREFIX}{_WORD}$")]
Reason = Annotated[
    str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
]


class Condition(Part):
    """One aspect of an object's state (metav1.Condition of the Kubernetes API)."""

    type: ConditionType = Field(description="What it is about: Ready, Stalled, Accepting …")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    reason: Reason = Field(description="Why, as one word for programs.")
    message: LongText = Field(description="Why, and what to do, as a sentence.")
    observed_generation: Generation | None = Field(None, description="metadata.generation it speaks of.")
    last_transition_time: datetime = Field(description="When `status` last changed.")


class Status(Part):
    """What the operator found."""

    observed_generation: Generation | None = Field(None, description="metadata.generation it speaks of.")
    conditions: list[Condition] = Field(
        [], max_length=20, description="State, by aspect.", json_schema_extra=BY_TYPE
    )


class DnsRecord(Part):
    """One record of a zone."""

    name: Text = Field(description="Its name, complete, with a dot at the end.")
    type: Literal["A", "AAAA", "CNAME", "MX", "SRV", "TXT"] = Field(description="Its type.")
    value: Text = Field(description="Its data, as in a zone file.")


class DnsStatus(Part):
    """What zones should hold."""

    # A domain has up to 11 for each of its 101 names while keys are rotated, a policy one for each of 1,000.
    records: list[DnsRecord] = Field(
        [], max_length=2000, description="The records.", json_schema_extra=SEQUENCE
    )


class Column(NamedTuple):
    """A column of `kubectl get`. `wide`: only with -o wide."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False


NAME_IS_LOCAL_PART = Rule(
    "metadata.name",
    "is longer than the 64 characters of a local part: set spec.localPart",
    "has(self.spec.localPart) || size(self.metadata.name) <= 64",
    _name_is_local_part,
)
READY = Column("Ready", '.status.conditions[?(@.type=="Ready")].status')
REASON = Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True)
AGE = Column("Age", ".metadata.creationTimestamp", "date")


class Scale(NamedTuple):
    """The paths of the scale subresource, for `kubectl scale` and autoscalers."""

    replicas: str
    observed: str
    selector: str


class Resource(BaseModel):
    """A custom resource. Subclasses add `spec`; the class variables say what else is to be known of the kind.

    `author`: who writes it: the platform team; who makes domains (role mail-config); who keeps their users
    (mail-maint, mail-domain-admin). `filled`: the fields of its spec that the operator fills in where they
    are blank. `owns`: whether Kubernetes objects of the operator's belong to it.
    """

    author: ClassVar[Literal["platform", "domains", "users"]]
    filled: ClassVar[tuple[str, ...]] = ()
    owns: ClassVar[bool] = False
    plural: ClassVar[str]
    short_name: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    status_model: ClassVar[type[Status]] = Status
    scale: ClassVar[Scale | None] = None
    validations: ClassVar[tuple[Rule, ...]] = ()

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel)

    kind: str
    metadata: Metadata
    _unknown: tuple[str, ...] = PrivateAttr(())

    @property
    def unknown(self) -> tuple[str, ...]:
        """Fields that it was read without, for this version does not know them."""
        return self._unknown

    @cached_property
    def ref(self) -> ObjectRef:
        """The object's name for others."""
        return ObjectRef(self.kind, self.metadata.namespace, self.metadata.name)

    @property
    def server(self) -> ObjectRef | None:
        """The MailServer that it names itself."""
        reference = getattr(self._spec, "server_ref", None)
        return reference and ObjectRef(
            "MailServer", reference.namespace or self.ref.namespace, reference.name
        )

    @property
    def domain(self) -> ObjectRef | None:
        """The MailDomain that it belongs to, and with which it goes."""
        reference = getattr(self._spec, "domain_ref", None)
        return reference and ObjectRef("MailDomain", self.ref.namespace, reference.name)

    @property
    def _spec(self) -> Any:
        return self.spec  # type: ignore[attr-defined]

    def password_secret(self) -> str | None:
        """The Secret with the password of the account that this object describes, if it names one."""
        return None

    def secrets(self) -> Iterator[str]:
        """The other Secrets that it names, or that are named after it, and of which the content matters."""
        return iter(())
