"""One file of two gigabytes: how much memory it takes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from io import RawIOBase

from benchmarks import s3_server as s3
from benchmarks.measure import Contender, compare
from benchmarks.tables import Table
from sandbox.s3 import s3_server

BYTES = 2_000_000_000


class _Bytes(RawIOBase):
    """So many bytes, the same megabyte over and over."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._piece = random.Random(1).randbytes(1_000_000)  # noqa: S311 - no secrets

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = (self._piece * (size // len(self._piece) + 1))[: min(size, self._left)]
        self._left -= len(piece)
        return piece


def run(rounds: int) -> Iterator[tuple[str, Table]]:
    """The table, of one round."""
    from boto3.s3.transfer import TransferConfig

    with s3_server() as server:
        server.create_bucket("benchmark")
        parts = TransferConfig(multipart_chunksize=64_000_000, max_concurrency=2)
        server.client().upload_fileobj(_Bytes(BYTES), "benchmark", "large.tif", Config=parts)  # type: ignore[arg-type]  # it reads like one
        bucket = s3.Bucket(replace(server), "benchmark", 1, BYTES)
        contenders = [
            Contender("CitySort, first import", s3.citysort_imports, (bucket,), bucket.server.requests),
            Contender("rclone, 32 transfers", s3.rclone_copies, (bucket,), bucket.server.requests),
            Contender("aws s3 sync", s3.aws_copies, (bucket,), bucket.server.requests),
        ]
        yield (
            "large-file",
            Table(
                "One file of 2 GB from S3",
                "SeaweedFS on loopback, on the same cores.",
                compare(contenders, 1, 1),
                most_mb=300,
            ),
        )
