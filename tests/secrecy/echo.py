"""A web server on loopback that knows no better than to answer with what it was sent."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Echo:
    """Answers every request with this `status`, its own headers and body, and an access token."""

    address: str
    token: str
    status: int = 401
    html: bool = False
    requests: int = 0


@contextmanager
def echo_server(token: str) -> Iterator[Echo]:
    """The server, for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            echo.requests += 1
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
            said = (
                f"{self.path} {dict(self.headers)} {_decoded(self.headers.get('Authorization', ''))} {sent}"
            )
            body = json.dumps(
                {
                    "error": {
                        "message": said,
                        "detail": said,
                        "code": echo.status,
                        "errors": [{"reason": said}],
                    },
                    "error_description": said,
                    "access_token": echo.token,
                    "expires_in": 3600,
                }
            )
            content = f"<html><title>{said}</title>{said}</html>" if echo.html else body
            self.send_response(echo.status, "Refused")
            self.send_header("Content-Type", "text/html" if echo.html else "application/json")
            self.send_header("Content-Length", str(len(content.encode())))
            self.send_header("WWW-Authenticate", f'Bearer realm="{self.headers.get("Authorization", "")}"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content.encode())

        do_GET = do_POST = do_HEAD = do_PUT = answer

        def log_message(self, *_arguments: Any) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        echo = Echo(f"http://127.0.0.1:{server.server_port}", token)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield echo
        finally:
            server.shutdown()
            thread.join()


def _decoded(authorization: str) -> str:
    try:
        return base64.b64decode(authorization.partition(" ")[2]).decode(errors="replace")
    except binascii.Error:
        return ""
