"""A TCP relay on loopback, in front of a database server, that cuts long answers when told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread

PIECE_BYTES = 65_536


@dataclass
class Relay:
    """The next `cuts` answers that are longer than `cut_after` bytes end there, and so do their
    connections."""

    port: int
    cut_after: int = 0
    cuts: int = 0


class _Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


@contextmanager
def relay(host: str, port: int) -> Iterator[Relay]:
    """A relay to a server; connections that are still open are left to their ends."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, port)) as server, suppress(OSError):
                self.answered = 0
                Thread(target=self._pass_questions, args=(server,), daemon=True).start()
                while piece := server.recv(PIECE_BYTES):
                    self.answered += len(piece)
                    if passing.cuts and self.answered > passing.cut_after:
                        passing.cuts -= 1
                        break
                    self.request.sendall(piece)
            with suppress(OSError):
                self.request.shutdown(socket.SHUT_RDWR)

        def _pass_questions(self, server: socket.socket) -> None:
            with suppress(OSError):
                while piece := self.request.recv(PIECE_BYTES):
                    self.answered = 0
                    server.sendall(piece)
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)

    server = _Server(("127.0.0.1", 0), Handler)
    passing = Relay(int(server.server_address[1]))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield passing
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
