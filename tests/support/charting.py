"""The chart as objects, for its tests."""

from typing import Any

import yaml

from tests.support.helm import sets, template

Object = dict[str, Any]


class _Strict(yaml.SafeLoader):
    """Takes no key twice, as the API server's strict decoding does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key stands twice at {node.start_mark}"
        return super().construct_mapping(node, deep)


def objects_of(text: str) -> list[Object]:
    """All that a text of manifests holds."""
    return [document for document in yaml.load_all(text, _Strict) if document]


def rendered(*values: str, arguments: tuple[str, ...] | list[str] = ()) -> list[Object]:
    """The chart with values as a.b=c, without what `helm test` makes."""
    return objects_of(template("--skip-tests", *sets(values), *arguments))


def by_name(objects: list[Object], kind: str) -> dict[str, Object]:
    """The objects of a kind."""
    return {o["metadata"]["name"]: o for o in objects if o["kind"] == kind}
