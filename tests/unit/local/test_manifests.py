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


def test_a_list_of_objects_is_read_as_kubectl_reads_it(tmp_path: Path) -> None:
    items = "items:\n- kind: Mailbox\n  metadata: {name: one}\n- kind: Mailbox\n  metadata:\n    name: two\n"
    (tmp_path / "all.yaml").write_text(f"apiVersion: v1\nkind: List\nmetadata: {{}}\n{items}")
    (tmp_path / "some.yaml").write_text(
        f"apiVersion: v1\nkind: MailboxList\n{items.replace('one', 'ten')}- 5\n"
    )
    manifests = Manifests([tmp_path])
    manifests.refresh()
    assert names(manifests) == ["one", "two"]
    assert list(manifests.documents)[1].line_of("metadata.name") == 9
    assert [str(problem) for problem in manifests.problems] == [
        f"{tmp_path / 'some.yaml'}:9: is no manifest: give apiVersion, kind, metadata"
    ]
    contents = [document.content for document in manifests.documents]
    (tmp_path / "all.yaml").write_text(f"# moved\n---\napiVersion: v1\nkind: List\nmetadata: {{}}\n{items}")
    manifests.refresh()
    assert [document.content for document in manifests.documents] == contents
    assert list(manifests.documents)[1].line_of("metadata.name") == 11


def test_the_same_text_twice_stays_twice(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(TWO + TWO)
    manifests = Manifests([tmp_path])
    manifests.refresh()
    (tmp_path / "all.yaml").write_text(ONE + TWO + TWO)
    manifests.refresh()
    assert names(manifests) == ["one", "two", "two"]


def test_merge_keys_are_overridden_and_doubles_are_still_errors(tmp_path: Path) -> None:
    usual = (
        "kind: Mailbox\nmetadata: {name: one}\nbase: &base {a: 1, b: 1}\nusual: &usual {<<: *base, b: 2}\n"
    )
    (tmp_path / "all.yaml").write_text(
        f"{usual}spec: {{<<: [*usual, {{d: 4}}], c: 3, d: 5}}\nagain: *usual\n"
    )
    (tmp_path / "twice.yaml").write_text("kind: A\nmetadata: {name: x}\nspec: {<<: {a: 1}, b: 1, b: 2}\n")
    manifests = Manifests([tmp_path])
    manifests.refresh()
    (document,) = manifests.documents
    assert document.content["spec"] == {"a": 1, "b": 2, "c": 3, "d": 5}
    assert document.content["again"] == {"a": 1, "b": 2}
    assert "twice.yaml:3: is not YAML: 'b' stands twice" in str(manifests.problems[0])


def test_bare_dates_and_times_are_texts_as_for_kubectl(tmp_path: Path) -> None:
    """go-yaml, by which kubectl reads: a date is no type of JSON, and 1:30 no number to base 60."""
    (tmp_path / "all.yaml").write_text(
        "kind: A\nmetadata: {name: x}\nspec: [2026-11-26, 2024-99-99, 1:30, 1:30.5, 17, 0x10, 1.5, '1']\n"
    )
    manifests = Manifests([tmp_path])
    manifests.refresh()
    (document,) = manifests.documents
    assert document.content["spec"] == ["2026-11-26", "2024-99-99", "1:30", "1:30.5", 17, 16, 1.5, "1"]
