"""What was decided once and cannot be derived: written into spec where it was blank, and in force at once."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from mail_operator.engine.runtime import ObservedResource, Runtime, Unavailable
from mail_operator.kinds import Resource
from mail_operator.kinds.meta import ObjectRef

_AT_ONCE = 16


class Allocations:
    """One for each engine."""

    def __init__(self, runtime: Runtime, log: Callable[[str], None]) -> None:
        self._runtime, self._log = runtime, log
        # Written into spec, and not seen there yet: the object's uid, and what.
        self._written: dict[ObjectRef, tuple[str, Mapping[str, Any]]] = {}
        self._overlays: dict[ObjectRef, tuple[Resource, Resource]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def write(self, wanted: Mapping[ObjectRef, Mapping[str, Any]]) -> bool:
        """Write all of them. Whether all went well; raises Unavailable where the ground takes nothing.

        What is not written down must not be put to use: such a round ends.
        """
        return all(await asyncio.gather(*(self._write(ref, patch) for ref, patch in wanted.items())))

    async def _write(self, ref: ObjectRef, patch: Mapping[str, Any]) -> bool:
        async with self._slots:
            observed = self._runtime.observed(ref)
            if observed is None:
                return True
            try:
                if not await self._runtime.allocate(ref, patch):
                    self._log(f"{ref}: {dict(patch)} not written: it has another value, or is gone")
                    return False
            except Unavailable as error:
                raise Unavailable(f"{ref}: {dict(patch)} not written: {error}") from error
            self._written[ref] = (observed.uid, patch)
            return True

    def overlaid(self, ref: ObjectRef, observed: ObservedResource, resource: Resource) -> Resource:
        """The resource with what was written into its spec just now; the same object each time."""
        of, patch = self._written.get(ref, ("", {}))
        if of != observed.uid:  # nothing, or an object of this name that is gone
            self._written.pop(ref, None)
            self._overlays.pop(ref, None)
            return resource
        known = self._overlays.get(ref)
        if known is None or known[0] is not resource:
            spec = resource.spec  # type: ignore[attr-defined]
            given = spec.model_dump(by_alias=True, exclude_unset=True)
            if all(given.get(field) is not None for field in patch):
                del self._written[ref]
                self._overlays.pop(ref, None)
                return resource
            full = type(spec).model_validate({**patch, **given})
            known = self._overlays[ref] = (resource, resource.model_copy(update={"spec": full}))
        return known[1]
