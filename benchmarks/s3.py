"""Importing from S3: the first import of small and of larger documents, and the same again unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from benchmarks import s3_server as s3
from benchmarks.measure import Contender, Row, Work, compare
from benchmarks.tables import Table

COPIERS = {
    "obstore, 32 threads": s3.obstore_copies,
    "obstore, checked and synced": s3.obstore_copies_for_good,
    "boto3, 32 threads": s3.boto3_copies,
    "rclone, 32 transfers": s3.rclone_copies,
    "s5cmd, 32 workers": s3.s5cmd_copies,
    "aws s3 sync": s3.aws_copies,
}
LISTERS = {"obstore, listing only": s3.obstore_lists, "boto3, listing only": s3.boto3_lists}
SERVER = "SeaweedFS on loopback, on the same cores."


def run(rounds: int) -> Iterator[tuple[str, Table]]:
    """The tables by name."""
    for name, documents, size, shown in (
        ("s3-small", 2_000, 20_000, "2,000 documents of 20 KB"),
        ("s3-large", 200, 1_000_000, "200 documents of 1 MB"),
    ):
        with s3.bucket_of(documents, size) as bucket:
            rows = _compare({"CitySort, first import": s3.citysort_imports} | COPIERS, bucket, rounds)
            yield (
                name,
                Table(
                    f"First import from S3: {shown}",
                    f"{SERVER} CitySort hashes, records and makes durable; the others only copy.",
                    rows,
                    baselines=["obstore, 32 threads"],
                    times=1.5,
                ),
            )
    for name, documents in (("s3-again", 2_000), ("s3-again-many", 20_000)):
        with s3.bucket_of(documents, 1_000) as bucket:
            rows = _compare({"CitySort, import again": s3.citysort_imports_again} | LISTERS, bucket, rounds)
            yield (
                name,
                Table(
                    f"The same import again, {documents:,} documents, none changed",
                    f"{SERVER} The others do nothing but list.",
                    rows,
                    baselines=list(LISTERS),
                    times=1.3,
                ),
            )


def _compare(works: Mapping[str, Callable[..., Work]], bucket: s3.Bucket, rounds: int) -> list[Row]:
    requests = bucket.server.requests
    contenders = [Contender(name, work, (bucket,), requests) for name, work in works.items()]
    return compare(contenders, bucket.documents, rounds)
