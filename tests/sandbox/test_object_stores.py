"""The object store servers: who may use them, and that they end with whoever started them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError

from sandbox.s3 import S3Server

STARTS_AND_DIES = """
import os, psutil, signal
from sandbox.gcs import gcs_server
with gcs_server():
    print(*(process.pid for process in psutil.Process().children(recursive=True)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_ends_and_is_cleared_away_when_its_starter_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    child = subprocess.run([sys.executable, "-c", STARTS_AND_DIES], capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    started = [int(pid) for pid in child.stdout.split()]
    assert started
    deadline = time.monotonic() + 30
    while any(tmp_path.iterdir()) or any(
        process.pid in started and process.info["status"] != psutil.STATUS_ZOMBIE
        for process in psutil.process_iter(["status"])
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("key", "secret", "code"), [("", "x", "SignatureDoesNotMatch"), ("x", "", "InvalidAccessKeyId")]
)
def test_wrong_keys_are_refused(s3_server: S3Server, key: str, secret: str, code: str) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint_url,
        region_name=s3_server.region,
        aws_access_key_id=s3_server.access_key + key,
        aws_secret_access_key=s3_server.secret_key + secret,
    )
    with pytest.raises(ClientError) as caught:
        client.list_buckets()
    assert caught.value.response["Error"]["Code"] == code
    assert s3_server.secret_key not in repr(s3_server)


def test_buckets_are_made_once_and_only_when_asked_for(s3_server: S3Server) -> None:
    client = s3_server.client()
    s3_server.create_bucket("made-once")
    client.put_object(Bucket="made-once", Key="kept", Body=b"x")
    s3_server.create_bucket("made-once")
    assert client.get_object(Bucket="made-once", Key="kept")["Body"].read() == b"x"
    with pytest.raises(client.exceptions.NoSuchBucket):
        client.put_object(Bucket="never-made", Key="x", Body=b"x")
