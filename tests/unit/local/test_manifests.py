"""Manifests on disk: an edit reads one document, a mistake costs nothing that worked."""

from pathlib import Path

import pytest
from mail_operator.local.manifests import Manifests

ONE = "kind: Mailbox\nmetadata: {name: one}\nspec:\n  quota: 1Gi\n"
TWO = "---\nkind: Mailbox\nmetadata: {name: two}\n"


def names(manifests: Manifests) -> list[str]:
    return [document.content["metadata"]["name"] for document in manifests.documents]


def test_files_of_a_folder_and_its_subfolders_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(ONE + TWO)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.yml").write_text("kind: MailAlias\nmetadata: {name: zero}\n")
    (tmp_path / "README.md").write_text("not a manifest")
    manifests = Manifests([tmp_path])
    assert manifests.refresh()
    assert names(manifests) == ["zero", "one", "two"]
    assert not manifests.refresh()


def test_an_edit_keeps_the_other_documents_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(ONE + TWO)
    manifests = Manifests([file])
    manifests.refresh()
    second = list(manifests.documents)[1]
    file.write_text("# a line more\n" + ONE.replace("1Gi", "2Gi") + TWO)
    assert manifests.refresh()
    one, two = manifests.documents
    assert one.content["spec"]["quota"] == "2Gi"
    assert two.content is second.content and two.line == second.line + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: [", "all.yaml:2: is not YAML"),
        ("kind: A\nkind: B\nmetadata: {name: x}\n", "all.yaml:2: is not YAML: 'kind' stands twice"),
        ("just words", "all.yaml:1: is no manifest"),
    ],
)
def test_a_broken_file_says_where_and_keeps_its_objects(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(ONE)
    manifests = Manifests([file])
    manifests.refresh()
    file.write_text(text)
    assert manifests.refresh()
    assert names(manifests) == ["one"]
    assert message in str(manifests.problems[0])
    file.write_text(ONE)
    manifests.refresh()
    assert manifests.problems == []


def test_a_folder_that_vanishes_keeps_its_objects_but_a_deleted_file_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "one.yaml").write_text(ONE)
    (folder / "two.yaml").write_text(TWO)
    manifests = Manifests([folder])
    manifests.refresh()
    folder.rename(tmp_path / "away")
    manifests.refresh()
    assert names(manifests) == ["one", "two"]
    assert "cannot be read" in str(manifests.problems[0])
    (tmp_path / "away").rename(folder)
    (folder / "one.yaml").unlink()
    manifests.refresh()
    assert names(manifests) == ["two"] and manifests.problems == []


def test_a_field_is_found_on_its_line(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(TWO + "---\n" + ONE + "  targets:\n  - address: a\n  - address: b\n")
    manifests = Manifests([file])
    manifests.refresh()
    document = list(manifests.documents)[-1]
    assert document.line_of("spec.quota") == 8
    assert document.line_of("spec.targets[1].address") == 11
    assert document.line_of("spec.targets[9].address") == 9  # the nearest that is there
