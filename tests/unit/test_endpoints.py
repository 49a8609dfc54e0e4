"""The same names lead to cluster DNS or to this machine's ports."""

import json
from pathlib import Path

import pytest

from mailpods.directory.endpoints import resolve


def test_a_name_outside_the_file_is_left_to_dns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESOLVE_FILE", str(tmp_path / "resolve.json"))
    assert resolve("store-0.shards.mail.svc:2024") == ("store-0.shards.mail.svc", 2024)
    (tmp_path / "resolve.json").write_text(json.dumps({"store-0.shards.mail.svc:2024": "127.0.0.1:99"}))
    assert resolve("store-0.shards.mail.svc:2024") == ("127.0.0.1", 99)
    assert resolve("hub.example.org:587") == ("hub.example.org", 587)


def test_an_endpoint_without_a_port_is_refused() -> None:
    with pytest.raises(ValueError, match="host:port"):
        resolve("hub.example.org")
