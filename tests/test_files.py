"""The file store: on a local folder, on an S3 server, on a GCS server; and what it does about crashes."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import unicodedata
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from citysort_dagster.files import (
    CLEAN_NAME_BYTES,
    FileStore,
    FileStoreError,
    LocalFiles,
    Staging,
    StoredFileMissing,
    WholeDisk,
    clean_name,
    open_file_store,
    stored_path,
)
from sandbox.gcs import GCSServer
from sandbox.s3 import S3Server
from tests.object_store_proxy import Exchange, proxy

MakeStore = Callable[[], FileStore]
ODD_NAMES = [
    "a/b.pdf",
    "100% done #1 ?&+=~ [x] {y} 'z' \"q\" ^`.pdf",
    "Bescheid für Müller (größer).docx",
    "申請書 第二号.pdf",
    "\U0001f3db️ city hall.txt",
    "%41%2F..%2Fb.txt",
]


@pytest.fixture
def credentials_of_s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    s3_server.create_bucket("files")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def gcs_endpoint(gcs_server: GCSServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    gcs_server.create_bucket("files")

    # Of uploads in XML, fake-gcs-server knows only those to a signed URL, and answers them in JSON.
    def as_signed(exchange: Exchange) -> None:
        exchange.headers["host"] = gcs_server.endpoint_url.removeprefix("http://")
        if exchange.method == "PUT":
            exchange.path += "?X-Goog-Algorithm=GOOG4-RSA-SHA256"

    def with_etag(exchange: Exchange) -> None:
        if exchange.method == "PUT" and exchange.status == 200:
            exchange.answer_headers["etag"] = json.loads(exchange.body)["etag"]

    with proxy(gcs_server.endpoint_url) as front:
        front.before, front.after = as_signed, with_etag
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.endpoint_url)
        yield front.endpoint_url


@pytest.fixture(params=["local", "s3", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    if request.param == "local":
        return open_file_store("", tmp_path / "incoming")
    request.getfixturevalue("credentials_of_s3" if request.param == "s3" else "gcs_endpoint")
    return open_file_store(f"{request.param}://files/{uuid.uuid4()}/a b", tmp_path / "incoming")


def publish(store: FileStore, contents: dict[str, bytes]) -> None:
    with Staging(store) as staging:
        moves = []
        for path, content in contents.items():
            staged = staging.new_file()
            staged.write_bytes(content)
            moves.append((staged, path))
        store.publish(moves)
        assert not any(staged.exists() for staged, _ in moves)


def read(store: FileStore, path: str) -> bytes:
    with store.open(path) as stored:
        return stored.read()


def test_what_is_published_can_be_read_measured_listed_and_deleted(store: FileStore) -> None:
    contents = {stored_path(str(uuid.uuid4()), name): name.encode() for name in ODD_NAMES}
    contents[stored_path(str(uuid.uuid4()), "empty")] = b""
    assert list(store.paths()) == []
    publish(store, contents)
    assert sorted(store.paths()) == sorted(contents)
    for path, content in contents.items():
        assert read(store, path) == content
        assert store.size(path) == len(content)
        with store.local_copy(path) as local:
            assert local.read_bytes() == content
            assert local.suffix == Path(path).suffix
    gone = next(iter(contents))
    store.delete(gone)
    store.delete(gone)
    assert gone not in set(store.paths())
    assert store.size(gone) is None


def test_missing_files_say_so(store: FileStore) -> None:
    path = stored_path(str(uuid.uuid4()), "x.pdf")
    assert store.size(path) is None
    with pytest.raises(StoredFileMissing, match=r"x\.pdf is missing"):
        store.open(path)
    with pytest.raises(FileNotFoundError), store.local_copy(path):
        pass


def test_a_store_without_any_file_is_told_from_one_that_lacks_a_file(store: FileStore) -> None:
    with pytest.raises(FileStoreError, match="holds no file at all: make sure that it is mounted"):
        store.require_files()
    publish(store, {"aa/x.pdf": b"x"})
    store.require_files()


def test_a_local_file_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    store = open_file_store("", tmp_path / "incoming")
    (tmp_path / "files" / "aa" / "x.pdf").mkdir(parents=True)
    with pytest.raises(FileStoreError, match="Is a directory"), store.local_copy("aa/x.pdf"):
        pass


def test_a_staged_file_that_is_missing_says_so(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(FileStoreError, match=r"files cannot be kept in .*: No such file or directory"):
        store.publish([(tmp_path / "never written", "aa/x")])


def test_publishing_again_replaces(store: FileStore) -> None:
    path = stored_path(str(uuid.uuid4()), "x.pdf")
    publish(store, {path: b"half of it"})
    publish(store, {path: b"all of it, now"})
    assert read(store, path) == b"all of it, now"
    assert list(store.paths()) == [path]


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "", "a//b", "./a", ".incoming/x", "a\0b"]
)
def test_no_path_leads_out_of_the_store(store: FileStore, tmp_path: Path, path: str) -> None:
    staged = tmp_path / "staged"
    staged.write_bytes(b"x")
    for attempt in (
        lambda: store.publish([(staged, path)]),
        lambda: store.open(path),
        lambda: store.size(path),
        lambda: store.delete(path),
    ):
        with pytest.raises(FileStoreError, match="is not the path of a stored file"):
            attempt()
    assert staged.exists()


def test_local_copies_of_a_bucket_are_removed(credentials_of_s3: None, tmp_path: Path) -> None:
    store = open_file_store("s3://files/copies", tmp_path / "incoming")
    publish(store, {"aa/bb/x.pdf": b"x"})
    with store.local_copy("aa/bb/x.pdf") as local:
        assert local.exists()
    assert not local.exists()


def test_large_files_arrive_whole_in_a_bucket_and_can_be_read_in_parts(
    credentials_of_s3: None, tmp_path: Path
) -> None:
    store = open_file_store("s3://files/large", tmp_path / "incoming")
    content = os.urandom(1_000_003) * 20
    publish(store, {"aa/bb/large": content})
    assert store.size("aa/bb/large") == len(content)
    with store.open("aa/bb/large") as stored:
        stored.seek(-7, os.SEEK_END)
        assert stored.read() == content[-7:]
        stored.seek(0)
        assert b"".join(iter(lambda: stored.read(300_000), b"")) == content


def test_local_files_are_private_and_a_batch_lands_in_many_folders(tmp_path: Path) -> None:
    store = LocalFiles(tmp_path / "new" / "files")
    contents = {stored_path(str(uuid.uuid4()), f"{number}.txt"): b"%d" % number for number in range(200)}
    publish(store, contents)
    assert sorted(store.paths()) == sorted(contents)
    for path in store.staging_root.parent.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_only_disks_that_are_known_to_keep_everything_at_once_are_asked_to(tmp_path: Path) -> None:
    assert WholeDisk(Path("/proc")).sync() is False
    known = WholeDisk(tmp_path)
    (tmp_path / "file").write_bytes(b"x")
    assert known.sync() is known.sync()


@pytest.mark.parametrize("at_once", [True, False])
def test_files_are_published_whichever_way_the_disk_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    asked = 0
    original = WholeDisk.sync

    def sync(disk: WholeDisk) -> bool:
        nonlocal asked
        asked += 1
        return original(disk) and at_once

    monkeypatch.setattr(WholeDisk, "sync", sync)
    store = LocalFiles(tmp_path / "files")
    publish(store, {"aa/x": b"x", "bb/y": b"y"})
    assert (read(store, "aa/x"), read(store, "bb/y"), asked) == (b"x", b"y", 2)


def test_a_disk_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file where the folder should be")
    store = LocalFiles(tmp_path / "files" / "below")
    with pytest.raises(FileStoreError, match=r"files cannot be kept in .*: File exists"), Staging(store):
        pass


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://host/x", "begins with ftp://, which is not known"),
        ("s3://", "must look like s3://bucket/prefix"),
        ("s3://key:canary-secret@bucket/x", "credentials come from the environment"),
        ("gs://bucket/x?token=canary-secret", "must look like gs://bucket/prefix"),
        ("file://otherhost/x", "looks like file:///absolute/path"),
        ("s3://[bad", "not a valid URL"),
        ("s3://bucket/a//b", "a part of its prefix is empty"),
        ("gs://bucket/a/../b", "a part of its prefix is empty, . or .."),
    ],
)
def test_urls_that_cannot_be_a_file_store(tmp_path: Path, url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        open_file_store(url, tmp_path)
    assert "canary-secret" not in str(caught.value)


def test_urls_of_local_folders(tmp_path: Path) -> None:
    wanted = tmp_path / "größe 1"
    for url in (wanted.as_uri(), str(wanted)):
        store = open_file_store(url, tmp_path / "incoming")
        assert store.url == wanted.as_uri()
        assert store.staging_root == wanted / ".incoming"
    assert open_file_store("", tmp_path / "incoming").url == (tmp_path / "files").as_uri()


@pytest.mark.parametrize("endpoint", ["http://minio.example.org:9000", "http://10.0.0.5", "ftp://127.0.0.1"])
def test_credentials_travel_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(ValueError, match="must be an https:// address"):
        open_file_store("s3://bucket", tmp_path)


def test_errors_of_a_bucket_are_sentences_without_secrets(
    s3_server: S3Server, credentials_of_s3: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = tmp_path / "staged"
    staged.write_bytes(b"x")

    def sentences(store: FileStore) -> list[str]:
        found = []
        for attempt in (lambda: store.publish([(staged, "aa/x")]), lambda: list(store.paths())):
            with pytest.raises(FileStoreError) as caught:
                attempt()
            assert caught.value.__suppress_context__
            found.append(str(caught.value))
        return found

    for sentence in sentences(open_file_store("s3://no-such-bucket/x", tmp_path)):
        assert sentence == "s3://no-such-bucket/x cannot be used: there is no such bucket"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    for sentence in sentences(open_file_store("s3://files", tmp_path)):
        assert "refuses access: check the credentials" in sentence
        assert "canary-secret" not in sentence
        assert s3_server.access_key not in sentence
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for sentence in sentences(open_file_store("s3://files", tmp_path)):
        assert "refuses access: check the credentials" in sentence
    assert staged.exists()


@settings(deadline=None)
@given(st.text(max_size=400))
@example("../../etc/passwd")
@example("CON   " + " " * 300 + "x.txt")
@example("aux.pdf")
@example("-rf .")
@example("‮fdp.exe")
@example("\udcff\ud800")
@example("e‍́")
@example("é" * 300 + ".pdf")
@example("x." + "y" * 300)
def test_clean_names_are_harmless(name: str) -> None:
    cleaned = clean_name(name)
    encoded = cleaned.encode()
    assert 0 < len(encoded) <= CLEAN_NAME_BYTES
    assert cleaned not in (".", "..")
    assert cleaned[0] not in ".- "
    assert cleaned[-1] not in ". "
    assert not set('<>:"/\\|?*') & set(cleaned)
    assert not any(unicodedata.category(character).startswith("C") for character in cleaned)
    assert unicodedata.is_normalized("NFC", cleaned)
    assert cleaned.split(".")[0].rstrip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}
    assert clean_name(cleaned) == cleaned


@settings(deadline=None)
@given(st.from_regex(r"[A-Za-z0-9_ .,()+-]{1,60}", fullmatch=True))
@example("con.txt")
@example("a." + "b" * 40)
def test_plain_names_are_cleaned_like_all_others(name: str) -> None:
    assert clean_name(name) == clean_name(f"{name}\u200b")


@settings(deadline=None)
@given(st.uuids(), st.text(max_size=300))
def test_stored_paths_have_one_component_below_a_folder(number: uuid.UUID, name: str) -> None:
    folder, last = stored_path(str(number), name).split("/")
    assert folder == str(number)[:2]
    assert last.startswith(f"{number}_")
    assert len(last.encode()) <= 255


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("Permit 2026.pdf", "Permit 2026.pdf"),
        ("", "document"),
        ("...", "document"),
        ("a/b\\c.txt", "a_b_c.txt"),
        (".htaccess", "htaccess"),
        ("nul.txt", "_nul.txt"),
        ("für.docx", "für.docx"),
        ("x" * 300 + ".pdf", "x" * (CLEAN_NAME_BYTES - 4) + ".pdf"),
        ("report.pdf. . ", "report.pdf"),
        ("in\r\nvoice\x00\x1b[31m.pdf", "invoice[31m.pdf"),
    ],
)
def test_clean_names(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


IMPORTER_THAT_DIES = """
import os, signal, sys
from pathlib import Path
from citysort_dagster.files import Staging, open_file_store

url, incoming, die_at = sys.argv[1:]
def reached(point):
    if point == die_at:
        print(point, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

store = open_file_store(url, Path(incoming))
staging = Staging(store).__enter__()
reached("start")
moves = []
for name in ("committed", "stray"):
    staged = staging.new_file()
    staged.write_bytes(name.encode())
    moves.append((staged, f"aa/bb/{name}"))
reached("staged")
staging.journal([path for _, path in moves])
reached("journaled")
store.publish(moves[:1])
reached("half")
store.publish(moves[1:])
reached("published")
"""


def only(*committed: str) -> Callable[[Sequence[str]], Collection[str]]:
    return lambda paths: set(paths) & set(committed)


@pytest.mark.parametrize("die_at", ["start", "staged", "journaled", "half", "published"])
def test_whatever_a_killed_import_leaves_is_swept(store: FileStore, tmp_path: Path, die_at: str) -> None:
    incoming = tmp_path / "incoming"
    url = "" if isinstance(store, LocalFiles) else store.url
    child = subprocess.run(
        [sys.executable, "-c", IMPORTER_THAT_DIES, url, str(incoming), die_at],
        capture_output=True,
        text=True,
    )
    assert (child.stdout, child.stderr, child.returncode) == (f"{die_at}\n", "", -signal.SIGKILL)
    arrived = {"half": {"committed"}, "published": {"committed", "stray"}}.get(die_at, set())
    assert {Path(path).name for path in store.paths()} == arrived
    with Staging(store) as staging:
        Staging.sweep_dead(store, only("aa/bb/committed"))
        assert {Path(path).name for path in store.paths()} == arrived - {"stray"}
        assert staging.new_file().parent.is_dir()
    assert [path.name for path in store.staging_root.iterdir()] == [".lock"]


def test_what_a_living_import_has_announced_is_not_swept(tmp_path: Path) -> None:
    """A dead process stored a file, and a living one has stored it again but not yet committed it."""
    store = open_file_store("", tmp_path / "incoming")
    child = subprocess.run(
        [sys.executable, "-c", IMPORTER_THAT_DIES, "", str(tmp_path / "incoming"), "published"],
        capture_output=True,
    )
    assert child.returncode == -signal.SIGKILL
    with Staging(store) as living:
        staged = living.new_file()
        staged.write_bytes(b"again")
        living.journal(["aa/bb/stray"])
        store.publish([(staged, "aa/bb/stray")])
        Staging.sweep_dead(store, only())
        assert read(store, "aa/bb/stray") == b"again"
        assert store.size("aa/bb/committed") is None
        living.committed(["aa/bb/stray"])


def test_an_import_that_fails_leaves_its_journal_for_the_next(tmp_path: Path) -> None:
    store = LocalFiles(tmp_path)
    with pytest.raises(ZeroDivisionError), Staging(store) as staging:
        for path in ("aa/in-doubt", "aa/fine"):
            staged = staging.new_file()
            staged.write_bytes(b"x")
            staging.journal([path])
            store.publish([(staged, path)])
        staging.committed(["aa/fine"])
        staging.new_file().write_bytes(b"half a download")
        raise ZeroDivisionError
    (left,) = [path for path in store.staging_root.iterdir() if path.is_dir()]
    assert sorted(path.name for path in left.iterdir()) == [".journal", ".lock"]
    Staging.sweep_dead(store, only("aa/fine"))
    assert list(store.paths()) == ["aa/fine"]
    assert [path.name for path in store.staging_root.iterdir()] == [".lock"]


def test_a_record_cut_short_does_not_hide_the_others(tmp_path: Path) -> None:
    store = LocalFiles(tmp_path)
    publish(store, {"aa/stray": b"x", "aa/other": b"y"})
    dead = store.staging_root / uuid.uuid4().hex
    dead.mkdir()
    (dead / ".journal").write_bytes(b'\n["aa/other", "aa/st\n["aa/stray"]\n')
    Staging.sweep_dead(store, only())
    assert list(store.paths()) == ["aa/other"]
    assert not dead.exists()


def test_imports_that_start_sweep_and_end_together_do_not_touch_each_other(tmp_path: Path) -> None:
    store = LocalFiles(tmp_path)
    problems: list[BaseException] = []

    def imports(worker: int) -> None:
        try:
            for number in range(15):
                with Staging(store) as staging:
                    Staging.sweep_dead(store, only())
                    path = f"{worker:02}/{number}"
                    staged = staging.new_file()
                    staged.write_bytes(path.encode())
                    staging.journal([path])
                    store.publish([(staged, path)])
                    assert read(store, path) == path.encode()
                    staging.committed([path])
        except BaseException as error:  # noqa: BLE001 - shown below
            problems.append(error)

    workers = [Thread(target=imports, args=(worker,)) for worker in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert problems == []
    assert len(list(store.paths())) == 8 * 15
    assert [path.name for path in store.staging_root.iterdir()] == [".lock"]
