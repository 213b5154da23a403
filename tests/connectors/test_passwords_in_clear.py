"""Database servers that ask for the password itself, as those do that check it elsewhere, and say it back."""

from __future__ import annotations

import io
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from connectors import get_connector
from connectors.base import Connector, ConnectorError, ExternalDocument
from tests.secrecy.canaries import canary


class Server:
    """What it is told."""

    def __init__(self, listening: socket.socket) -> None:
        self.port = int(listening.getsockname()[1])
        self.heard: list[bytes] = []


@contextmanager
def serving(answer: Callable[[socket.socket], bytes]) -> Iterator[Server]:
    """A server that has this conversation on each connection, which returns the password that it was told."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(listening)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    server.heard.append(answer(connection))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def as_postgresql(connection: socket.socket) -> bytes:
    """https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP"""
    requests_for_encryption = (80877103, 80877104)
    while True:
        length, code = struct.unpack("!II", received(connection, 8))
        received(connection, length - 8)
        if code not in requests_for_encryption:
            break
        connection.sendall(b"N")
    connection.sendall(b"R" + struct.pack("!II", 8, 3))
    (length,) = struct.unpack("!xI", received(connection, 5))
    password = received(connection, length - 4).rstrip(b"\0")
    error = b"SFATAL\0VFATAL\0C28P01\0Mbind(uid=clerk, pw=" + password + b") rejected\0\0"
    connection.sendall(b"E" + struct.pack("!I", len(error) + 4) + error)
    return password


def as_mysql(connection: socket.socket) -> bytes:
    """https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html"""
    capabilities = 0x000FF7FF  # without encryption
    greeting = b"".join(
        (
            b"\x0a8.0.0\0" + struct.pack("<I", 1) + b"a" * 8 + b"\0",
            struct.pack("<H", capabilities & 0xFFFF) + b"\x21" + struct.pack("<H", 2),
            struct.pack("<H", capabilities >> 16) + bytes([21]) + bytes(10) + b"a" * 12 + b"\0",
            b"mysql_native_password\0",
        )
    )
    connection.sendall(packet(0, greeting))
    number, _ = packet_from(connection)
    connection.sendall(packet(number + 1, b"\xfemysql_clear_password\0"))
    number, password = packet_from(connection)
    refusal = b"\xff" + struct.pack("<H", 1045) + b"#28000account clerk with " + password.rstrip(b"\0")
    connection.sendall(packet(number + 1, refusal))
    return password


def packet(number: int, content: bytes) -> bytes:
    return struct.pack("<I", len(content))[:3] + bytes([number]) + content


def packet_from(connection: socket.socket) -> tuple[int, bytes]:
    header = received(connection, 4)
    return (header[3], received(connection, int.from_bytes(header[:3], "little"))) if header else (0, b"")


def received(connection: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        piece = connection.recv(count - len(content))
        if not piece:
            return b""
        content += piece
    return content


def connector(kind: str, server: Server, password: str) -> Connector:
    return get_connector(
        kind,
        {
            "host": "127.0.0.1",
            "port": server.port,
            "database": "letters",
            "username": "clerk",
            "password": password,
            "query": "SELECT 1 AS id",
            "id_column": "id",
            "content_column": "id",
        },
    )


def sentences(found: Connector) -> Iterator[str]:
    """What it tells of each thing that it is asked for."""
    yield found.test_connection().message
    for ask in (
        lambda: list(found.list_documents()),
        lambda: found.download_document(ExternalDocument("1", "1", "1"), io.BytesIO()),
    ):
        with pytest.raises(ConnectorError) as raised:
            ask()
        yield str(raised.value)


def test_a_password_that_the_server_says_back_is_not_shown() -> None:
    password = canary()
    with serving(as_postgresql) as server, closing(connector("postgresql", server, password)) as found:
        for sentence in sentences(found):
            assert "bind(uid=clerk, pw=(hidden)) rejected" in sentence
            assert password not in sentence
        assert set(server.heard) == {password.encode()}


def test_mysql_tells_no_password_in_clear_on_a_connection_that_need_not_be_encrypted() -> None:
    """https://dev.mysql.com/doc/refman/8.4/en/cleartext-pluggable-authentication.html"""
    password = canary()
    with serving(as_mysql) as server, closing(connector("mysql", server, password)) as found:
        for sentence in sentences(found):
            assert "in clear" in sentence and "ssl_mode" in sentence
            assert password not in sentence
    assert server.heard and not any(server.heard)
