"""The same names lead to cluster DNS or to this machine's ports."""

import asyncio
import json
from pathlib import Path

import pytest

from mailpods.admin.server import AdminServer, Response
from mailpods.directory.endpoints import connect, http_connection, is_socket, listening_socket, resolve


def test_a_name_outside_the_file_is_left_to_dns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESOLVE_FILE", str(tmp_path / "resolve.json"))
    assert resolve("store-0.shards.mail.svc:2024") == ("store-0.shards.mail.svc", 2024)
    (tmp_path / "resolve.json").write_text(json.dumps({"store-0.shards.mail.svc:2024": "127.0.0.1:99"}))
    assert resolve("store-0.shards.mail.svc:2024") == ("127.0.0.1", 99)
    assert resolve("hub.example.org:587") == ("hub.example.org", 587)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    writer.close()


def test_a_name_of_this_machine_may_lead_to_a_unix_socket_of_the_folder_s_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESOLVE_FILE", str(tmp_path / "resolve.json"))
    there = {"store-0.shards.mail.svc:2024": f"unix:{tmp_path}/lmtp"}
    (tmp_path / "resolve.json").write_text(json.dumps(there))
    place = resolve("store-0.shards.mail.svc:2024")
    assert place == (f"{tmp_path}/lmtp", 0) and is_socket(place)

    async def ask() -> bytes:
        server = await asyncio.start_unix_server(_echo, sock=listening_socket(place[0]))
        reader, writer = await connect(place)
        writer.write(b"here\n")
        answer = await reader.readline()
        writer.close()
        server.close()
        return answer

    assert asyncio.run(ask()) == b"here\n"
    assert asyncio.run(ask()) == b"here\n", "what an ended program left is in nobody's way"
    assert (tmp_path / "lmtp").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "lmtp").stat().st_uid == tmp_path.stat().st_uid


def test_programs_are_asked_by_http_over_either(tmp_path: Path) -> None:
    routes = {"GET /livez": lambda _: Response.text("ok")}
    for port in (0, f"unix:{tmp_path}/admin"):
        server = AdminServer("127.0.0.1,127.0.0.2" if port else "127.0.0.1", port, routes)
        server.start()
        place = (f"{tmp_path}/admin", 0) if port else ("127.0.0.1", server.port)
        connection = http_connection(place, 5)
        connection.request("GET", "/livez")
        assert connection.getresponse().read() == b"ok\n"
        connection.close()
        server.stop()


def test_an_endpoint_without_a_port_is_refused() -> None:
    with pytest.raises(ValueError, match="host:port"):
        resolve("hub.example.org")
