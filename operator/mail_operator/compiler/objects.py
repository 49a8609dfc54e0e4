"""The objects of one installation without its Secrets: what its components declare, and what is to go."""

from collections.abc import Iterator, Sequence
from itertools import chain

from mail_operator.compiler.network import network_policy, services
from mail_operator.compiler.workloads import disruption_budget, workload
from mail_operator.components.component import Component
from mail_operator.components.installation import Installation, Manifest
from mail_operator.kinds.meta import ObjectRef

_WORKLOADS = ("StatefulSet", "Deployment")


def objects(at: Installation, components: Sequence[Component]) -> Iterator[Manifest]:
    """In the order in which to apply them: what leads to pods before the pods."""
    made = [_of_component(at, each, components) for each in components if each.exists(at)]
    for stage in zip(*made, strict=True):
        yield from chain.from_iterable(stage)


def _of_component(
    at: Installation, component: Component, components: Sequence[Component]
) -> tuple[list[Manifest], ...]:
    return (
        list(services(at, component, components)),
        [network_policy(at, component, components)],
        [disruption_budget(at, component)],
        [workload(at, component)],
    )


def prunable(at: Installation, components: Sequence[Component]) -> Iterator[ObjectRef]:
    """What such a server does not have, and may have had: under other settings, or by an earlier version."""
    for component in components:
        if not component.exists(at):
            for each in chain.from_iterable(_of_component(at, component, components)):
                yield ObjectRef(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"])
        for kind in _WORKLOADS:
            if kind != component.workload:
                yield ObjectRef(kind, at.namespace, f"{at.name}-{component.name}")
