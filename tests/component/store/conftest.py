"""A store program for each test that asks for one."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.storepod import StoreProgram


@pytest.fixture
def programs() -> Iterator[Callable[[str], StoreProgram]]:
    """Makes store programs by role, not started; they end with the test."""
    made: list[StoreProgram] = []

    def make(role: str) -> StoreProgram:
        made.append(StoreProgram(role))
        return made[-1]

    yield make
    for program in made:
        program.close()


@pytest.fixture
def store(programs: Callable[[str], StoreProgram]) -> StoreProgram:
    """One with role store, not started."""
    return programs("store")
