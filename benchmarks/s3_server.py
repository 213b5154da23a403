"""A bucket full of documents on a real S3 protocol server, and everybody who reads it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measure import NotInstalled, Work, find_tool, run_tool
from citysort_dagster.files import WholeDisk
from sandbox.s3 import S3Server, s3_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore import ObjectMeta
    from obstore.store import S3Store

IN_FLIGHT = 32


class Bucket(NamedTuple):
    """Where the documents are."""

    server: S3Server
    name: str
    documents: int
    bytes_each: int


@contextmanager
def bucket_of(documents: int, bytes_each: int) -> Iterator[Bucket]:
    """A server with one bucket of random documents."""
    with s3_server() as server:
        server.create_bucket("benchmark")
        # Without its client, which cannot be sent to another process.
        bucket = Bucket(replace(server), "benchmark", documents, bytes_each)
        put_documents(bucket, "documents", documents)
        yield bucket


def put_documents(bucket: Bucket, folder: str, count: int) -> None:
    """Adds documents to the bucket."""
    import obstore

    store = obstore_of(bucket)
    content = os.urandom(bucket.bytes_each)
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        names = [f"{folder}/{number:06}.pdf" for number in range(count)]
        list(pool.map(lambda name: obstore.put(store, name, name.encode() + content[len(name) :]), names))


def obstore_of(bucket: Bucket) -> S3Store:
    """obstore's own view of the bucket."""
    from obstore.store import S3Store

    return S3Store(
        bucket.name,
        endpoint=bucket.server.endpoint_url,
        region=bucket.server.region,
        access_key_id=bucket.server.access_key,
        secret_access_key=bucket.server.secret_key,
        client_options={"allow_http": True},
    )


def boto3_of(bucket: Bucket) -> S3Client:
    """A boto3 client for many threads."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=bucket.server.endpoint_url,
        region_name=bucket.server.region,
        aws_access_key_id=bucket.server.access_key,
        aws_secret_access_key=bucket.server.secret_key,
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=IN_FLIGHT),
    )


def citysort_imports(bucket: Bucket, folder: Path) -> Work:
    """CitySort's import, everything included: listing, sync log, checksums, files, database, audit trail."""
    from benchmarks.installation import prepared_import

    return prepared_import(
        "amazon_s3",
        {
            "bucket_name": bucket.name,
            "endpoint_url": bucket.server.endpoint_url,
            "access_key_id": bucket.server.access_key,
            "secret_access_key": bucket.server.secret_key,
        },
        folder,
    )


def citysort_imports_again(bucket: Bucket, folder: Path) -> Work:
    """The same import, after one that brought everything."""
    from benchmarks.installation import import_everything

    import_everything(citysort_imports(bucket, folder), bucket.documents)
    return citysort_imports(bucket, folder)


def obstore_copies(bucket: Bucket, folder: Path) -> Work:
    """obstore's calls in threads: list, get, write."""
    import obstore

    store = obstore_of(bucket)

    def copy(key: str) -> None:
        (folder / key.replace("/", "_")).write_bytes(obstore.get(store, key).bytes())

    def work() -> int:
        keys = [found["path"] for page in obstore.list(store, chunk_size=1_000) for found in page]
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            list(pool.map(copy, keys))
        return _count(folder)

    return work


def obstore_copies_for_good(bucket: Bucket, folder: Path) -> Work:
    """The same, with the checksum that is stated compared, another taken, and everything on the disk:
    the least that CitySort's promises cost, in obstore's way of doing it."""
    import obstore

    store = obstore_of(bucket)
    disk = WholeDisk(folder)

    def copy(found: ObjectMeta) -> None:
        content = obstore.get(store, found["path"]).bytes()
        hashlib.sha256(content).hexdigest()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != str(found["e_tag"]).strip('"'):
            raise RuntimeError(f"{found['path']} arrived altered")
        (folder / found["path"].replace("/", "_")).write_bytes(content)

    def work() -> int:
        listed = [found for page in obstore.list(store, chunk_size=1_000) for found in page]
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            list(pool.map(copy, listed))
        if not disk.sync():
            raise NotInstalled("a file system that is known to sync as a whole")
        return _count(folder)

    return work


def boto3_copies(bucket: Bucket, folder: Path) -> Work:
    """boto3's calls in threads: list, get, write."""
    client = boto3_of(bucket)

    def copy(key: str) -> None:
        body = client.get_object(Bucket=bucket.name, Key=key)["Body"]
        (folder / key.replace("/", "_")).write_bytes(body.read())

    def work() -> int:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            list(pool.map(copy, keys))
        return _count(folder)

    return work


def rclone_copies(bucket: Bucket, folder: Path) -> Work:
    """`rclone copy` with as many transfers."""
    rclone = find_tool("rclone")
    remote = (
        f":s3,provider=Other,env_auth=true,endpoint='{bucket.server.endpoint_url}',"
        f"region={bucket.server.region}:{bucket.name}"
    )
    command = [rclone, "--config", os.devnull, "copy", "--transfers", str(IN_FLIGHT), remote, str(folder)]
    return lambda: _tool_copies(bucket, command, folder)


def s5cmd_copies(bucket: Bucket, folder: Path) -> Work:
    """`s5cmd cp` with as many workers."""
    s5cmd = find_tool("s5cmd")
    address = ["--endpoint-url", bucket.server.endpoint_url]
    command = [s5cmd, *address, "--numworkers", str(IN_FLIGHT), "cp", f"s3://{bucket.name}/*", f"{folder}/"]
    return lambda: _tool_copies(bucket, command, folder)


def aws_copies(bucket: Bucket, folder: Path) -> Work:
    """`aws s3 sync` as it comes."""
    aws = find_tool("aws")
    address = ["--endpoint-url", bucket.server.endpoint_url]
    command = [aws, *address, "s3", "sync", "--only-show-errors", f"s3://{bucket.name}", str(folder)]
    return lambda: _tool_copies(bucket, command, folder)


def obstore_lists(bucket: Bucket, folder: Path) -> Work:
    """obstore's listing, and nothing else."""
    import obstore

    store = obstore_of(bucket)

    def work() -> int:
        return sum(len(page) for page in obstore.list(store, chunk_size=1_000))

    return work


def boto3_lists(bucket: Bucket, folder: Path) -> Work:
    """boto3's listing, and nothing else."""
    client = boto3_of(bucket)

    def work() -> int:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
        return sum(len(page.get("Contents", [])) for page in pages)

    return work


def _tool_copies(bucket: Bucket, command: list[str], folder: Path) -> int:
    keys = {
        "AWS_ACCESS_KEY_ID": bucket.server.access_key,
        "AWS_SECRET_ACCESS_KEY": bucket.server.secret_key,
        "AWS_REGION": bucket.server.region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    run_tool(command, keys)
    return _count(folder)


def _count(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))
