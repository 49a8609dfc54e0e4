"""What all kinds share: references, metadata, conditions, and the types of their fields."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

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


class Part(BaseModel):
    """A part of a manifest: camelCase in YAML, unknown fields refused, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


def later(requirement: str) -> dict[str, Any]:
    """Marks a field whose behaviour comes later: `mailpods check` and the FieldsIgnored condition name it."""
    return {"later": requirement}


QUANTITY = r"^[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$"
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity_bytes(text: str) -> int:
    """A Kubernetes quantity in bytes: 50M is 50,000,000, 2Gi is 2 GiB."""
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text).groups()  # type: ignore[union-attr]
    return int(float(number) * _UNITS[unit])


def _network(text: str) -> str:
    import ipaddress

    return str(ipaddress.ip_network(text, strict=False))


LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
Domain = Annotated[str, Field(min_length=1, max_length=253, pattern=rf"^({LABEL}\.)+{LABEL}$")]
Host = Annotated[str, Field(min_length=1, max_length=253, pattern=rf"^{LABEL}(\.{LABEL})*$")]
LocalPart = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9_+=~-]+(\.[a-z0-9_+=~-]+)*$")]
EmailAddress = Annotated[str, Field(min_length=3, max_length=254, pattern=r"^[^@\s]{1,64}@[a-z0-9.-]+$")]
Quantity = Annotated[str, Field(max_length=20, pattern=QUANTITY)]
Cidr = Annotated[str, Field(min_length=3, max_length=43), AfterValidator(_network)]
Text = Annotated[str, Field(max_length=1000)]


class Metadata(BaseModel):
    """The parts of metadata that matter here; the rest is the API server's."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel)

    name: Name
    namespace: str = "default"
    uid: str | None = None
    generation: int | None = None
    creation_timestamp: str | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class LocalRef(Part):
    """An object of the same namespace."""

    name: Name = Field(description="Name of the object, in the same namespace.")


class ServerRef(Part):
    """A MailServer, in this namespace if none is named."""

    name: Name = Field(description="Name of the MailServer.")
    namespace: Name | None = Field(None, description="Its namespace; this object's own if blank.")


class Resource(BaseModel):
    """A custom resource. Subclasses add `spec`, and say in `rules()` what one schema field cannot."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel)

    kind: str
    metadata: Metadata

    @property
    def ref(self) -> ObjectRef:
        """The object's name for others."""
        return ObjectRef(self.kind, self.metadata.namespace, self.metadata.name)

    def rules(self) -> Iterator[tuple[str, str]]:
        """(field, sentence) for each rule over several fields that the object breaks."""
        return iter(())

    def password_secret(self) -> str | None:
        """The Secret with the password of the account that this object describes, if it names one."""
        return None
