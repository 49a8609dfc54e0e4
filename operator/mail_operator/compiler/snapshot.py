"""What compile() looks at: everything that somebody gathered, frozen at one moment."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from mail_operator.components import COMPONENTS
from mail_operator.components.component import Component
from mail_operator.kinds import Resource
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.secret import SecretFacts

SecretName = tuple[str, str]  # (namespace, name)


class Question(NamedTuple):
    """Of which records DNS is asked. `resolvers`: whom, as address[:port]; none: the system's."""

    name: str  # without a final dot
    type: str
    resolvers: tuple[str, ...] = ()


# The records as in a zone file, hosts in lower case without a final dot; (): there is none. What is not known
# is not there.
Answers = Mapping[Question, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A Secret's password, hashed by the I/O layer in a scheme that Dovecot knows."""

    hash: str
    version: str = ""  # of the Secret it was made of, kept beside it so that it is never hashed twice


@dataclass(frozen=True, slots=True)
class SecretProblem:
    """Why a Secret that exists gives nothing; `message` is a sentence with remedy. It never holds a value.

    `kept`: what it gave before, where it holds a password: the account still logs in with that.
    """

    reason: str
    message: str
    kept: PasswordHash | None = None

    def keeping(self, before: PasswordHash | None) -> "SecretProblem":
        """The same, with the password of before."""
        return replace(self, kept=before)


@dataclass(frozen=True)
class Snapshot:
    """All custom resources with what they refer to. Mappings are never changed after they were given.

    An object that changed is another Python object, one that did not is the same: compile() tells by
    identity what it may keep. Which versions the pods acknowledged is no part of it.
    """

    objects: Mapping[ObjectRef, Resource] = field(default_factory=dict)
    passwords: Mapping[SecretName, PasswordHash | SecretProblem] = field(default_factory=dict)
    secrets: Mapping[SecretName, Mapping[str, bytes] | SecretProblem] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # name -> labels
    age: Mapping[ObjectRef, int] = field(default_factory=dict)  # where no creation time is set: less is older
    image: str = "mailpods:0.1.0"  # of the mail pods
    components: tuple[Component, ...] = COMPONENTS
    served: frozenset[ObjectRef] = frozenset()  # mailboxes of a blank shard that had mail before: there
    wiped: Mapping[ObjectRef, frozenset[int]] = field(default_factory=dict)  # MailServer -> domains' numbers
    addresses: Mapping[ObjectRef, tuple[str, ...]] = field(default_factory=dict)  # MailServer -> Service's
    answers: Answers = field(default_factory=dict)
    now: datetime.datetime | None = None  # to the hour: what ends is noticed then; None: nothing ends

    def secret_facts(self, name: SecretName, keys: Sequence[str]) -> SecretFacts:
        """What the rules about a Secret look at that must have these keys."""
        found = self.secrets.get(name)
        if isinstance(found, SecretProblem):
            return SecretFacts("/".join(name), keys, None, (found.reason, found.message))
        return SecretFacts("/".join(name), keys, found)

    def with_changes(
        self, changed: Mapping[ObjectRef, Resource], removed: Iterable[ObjectRef] = ()
    ) -> "Snapshot":
        """The same snapshot with other objects. Removing what is not there is no error."""
        objects = {**self.objects, **changed}
        for ref in removed:
            objects.pop(ref, None)
        return replace(self, objects=objects)
