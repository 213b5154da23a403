"""Where the bytes of documents live: a local folder, or a bucket on S3 or Google Cloud Storage.

Files are staged locally while they arrive, made permanent by `FileStore.publish`, and named by
`stored_path`. `Staging` remembers what was about to be published, so that nothing a process leaves
behind when it dies stays for ever.
"""

from __future__ import annotations

import ctypes
import fcntl
import io
import json
import os
import re
import shutil
import sys
import tempfile
import unicodedata
import uuid
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta, timezone
from functools import cached_property
from ipaddress import ip_address
from itertools import count
from pathlib import Path, PurePosixPath
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import boto3.session
    from _typeshed import WriteableBuffer
    from obstore import ReadableFile
    from obstore.store import GCSCredential, GCSStore, S3Credential, S3Store

COPY_BYTES = 1_000_000
_PARALLEL = 8
_PART_BYTES = 8_000_000
_READ_BYTES = 8_000_000


class FileStoreError(Exception):
    """The file store cannot do what was asked; one sentence for a person, never with a secret."""


class StoredFileMissing(FileStoreError, FileNotFoundError):
    """There is no file under a stored path."""


class FileStore(ABC):
    """Bytes under stored paths: relative, with `/` between their parts.

    Every method raises FileStoreError when the store cannot be used, and for a path that leads
    out of it. Methods may be called by several threads at once.
    """

    url: str
    """Where the store is, without credentials."""
    staging_root: Path
    """The local folder in which importing processes stage what arrives."""

    def prepare_staging(self) -> None:
        """Makes the staging folder; called before anything is staged. For this account alone."""
        with _disk_errors(self.staging_root):
            _private_folder(self.staging_root)

    @abstractmethod
    def publish(self, staged: Sequence[tuple[Path, str]]) -> None:
        """Makes staged files permanent under their stored paths, replacing what is there.

        When it returns, the bytes survive a loss of power and the staged files are gone.
        """

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """The stored bytes, read as they are needed; the caller closes it. Raises StoredFileMissing."""

    @abstractmethod
    def local_copy(self, path: str) -> AbstractContextManager[Path]:
        """A local file with the stored bytes, to be read only and only inside the `with` block.

        Its name ends as the stored one does. Raises StoredFileMissing.
        """

    @abstractmethod
    def size(self, path: str) -> int | None:
        """The number of stored bytes, None when there is no such file."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Removes a stored file; one that is already gone is fine."""

    @abstractmethod
    def paths(self) -> Iterator[str]:
        """The path of every stored file, lazily and in no particular order."""

    def require_files(self) -> None:
        """Raises FileStoreError when there is no file at all, as in a folder that is not mounted or a bucket
        that is another: then a missing file tells nothing about that file."""
        if next(self.paths(), None) is None:
            raise FileStoreError(
                f"{self.url} holds no file at all: make sure that it is mounted and the right one"
            )


def open_file_store(url: str, staging: Path) -> FileStore:
    """The file store at a URL, without contacting it.

    `s3://bucket/prefix` and `gs://bucket/prefix` stage files in the folder `staging`. A path or
    `file:///path` is a local folder, which holds its own staging area; an empty URL means the
    folder `files` beside `staging`. Raises ValueError with a sentence for any other URL.
    """
    if not url:
        return LocalFiles(staging.parent / "files")
    if "://" not in url and not url.startswith("file:"):
        try:
            return LocalFiles(Path(url).expanduser())
        except (RuntimeError, OSError):  # ~ of nobody; a working folder that is gone
            raise ValueError("the files URL is a path that leads nowhere") from None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("the files URL is not a valid URL") from None
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ValueError("a files URL of a folder looks like file:///absolute/path")
        return LocalFiles(Path(unquote(parts.path)))
    if parts.scheme not in ("s3", "gs"):
        raise ValueError(
            f"the files URL begins with {parts.scheme}://, which is not known: use s3://bucket/prefix,"
            " gs://bucket/prefix, file:///path or a path"
        )
    if not parts.hostname or parts.username or parts.password or port or parts.query or parts.fragment:
        raise ValueError(
            f"the files URL must look like {parts.scheme}://bucket/prefix; credentials come from the environment"
        )
    return ObjectFiles(parts.scheme, parts.netloc, unquote(parts.path), staging)


class LocalFiles(FileStore):
    """Files in a local folder, readable by this account alone."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.url = self._root.as_uri()
        self.staging_root = self._root / ".incoming"
        self._durable: set[Path] = set()
        self._disk: WholeDisk | None = None

    def prepare_staging(self) -> None:
        super().prepare_staging()
        if self._disk is None:
            with self._errors():
                self._disk = WholeDisk(self._root)

    def publish(self, staged: Sequence[tuple[Path, str]]) -> None:
        folders = {
            self._root / folder for folder in {_checked(path).rpartition("/")[0] for _, path in staged}
        }
        with self._errors():
            _private_folder(self._root)
            for source, _ in staged:
                source.chmod(0o600)
            self._keep([source for source, _ in staged])
            for folder in folders:
                _private_folder(folder)
            root = str(self._root)
            for source, path in staged:
                os.replace(source, f"{root}/{path}")  # noqa: PTH105 - paths take longer than the disk
            # A new folder is itself an entry that must survive, whoever made it.
            above = {parent for folder in folders for parent in self._above(folder)} - self._durable
            self._keep([*folders, *above])
            self._durable |= above

    def _keep(self, paths: Sequence[Path]) -> None:
        """Has the disk itself keep these files and folders."""
        if self._disk is not None and self._disk.sync():
            return
        with ThreadPoolExecutor(_PARALLEL, "publish") as pool:
            list(pool.map(_sync, paths))

    def open(self, path: str) -> BinaryIO:
        with self._errors(path):
            return (self._root / _checked(path)).open("rb")

    @contextmanager
    def local_copy(self, path: str) -> Iterator[Path]:
        # Whoever gets the path could not tell a disk that fails from a document that is broken.
        self.open(path).close()
        yield self._root / path

    def size(self, path: str) -> int | None:
        with self._errors():
            try:
                return (self._root / _checked(path)).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def delete(self, path: str) -> None:
        local = self._root / _checked(path)
        with self._errors():
            try:
                local.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            _sync(local.parent)

    def paths(self) -> Iterator[str]:
        with self._errors():
            yield from self._paths_below(self._root)

    def _paths_below(self, folder: Path) -> Iterator[str]:
        try:
            entries = os.scandir(folder)
        except FileNotFoundError:
            return
        with entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from self._paths_below(Path(entry.path))
                else:
                    yield Path(entry.path).relative_to(self._root).as_posix()

    def _above(self, folder: Path) -> Iterator[Path]:
        while folder != self._root:
            folder = folder.parent
            yield folder

    @contextmanager
    def _errors(self, path: str = "") -> Iterator[None]:
        with _disk_errors(self._root):
            try:
                yield
            except FileNotFoundError:
                if path:
                    raise _missing(path) from None
                raise


class WholeDisk:
    """Has the disk keep everything that was written to a file system, in one call: Linux's syncfs.

    An fsync for each of many small files costs far more. It is used where it is known to wait for
    the disk and to report writes that failed since this object was made, which must therefore be
    before they are written: https://man7.org/linux/man-pages/man2/syncfs.2.html.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = Lock()
        self._usable = _syncfs_is_reliable(folder)
        if self._usable:
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            weakref.finalize(self, os.close, self._descriptor)

    def sync(self) -> bool:
        """Whether all is kept. If not, the error may concern somebody else's files: try each."""
        # An error is reported once per descriptor; whoever comes next must not take that for success.
        with self._lock:
            self._usable = self._usable and ctypes.CDLL(None).syncfs(self._descriptor) == 0
            return self._usable


_RELIABLE_FILE_SYSTEMS = ("ext4", "xfs", "tmpfs")


def _syncfs_is_reliable(folder: Path) -> bool:
    if sys.platform != "linux":
        return False
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if release is None or (int(release[1]), int(release[2])) < (5, 8):
        return False
    device = folder.stat().st_dev
    # https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    mounted = re.compile(rf"\d+ \d+ {os.major(device)}:{os.minor(device)} .* - (\S+) ")
    with Path("/proc/self/mountinfo").open(errors="replace") as mounts:
        kinds = {found[1] for found in map(mounted.match, mounts) if found}
    return bool(kinds) and kinds <= set(_RELIABLE_FILE_SYSTEMS)


class ObjectFiles(FileStore):
    """Files in a bucket, under a prefix. Credentials come from the environment, as the vendor's own
    tools find them: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html,
    https://cloud.google.com/docs/authentication/application-default-credentials."""

    def __init__(self, scheme: str, bucket: str, prefix: str, staging: Path) -> None:
        """Raises ValueError when the prefix, or an endpoint in the environment, may not be used."""
        self._scheme = scheme
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/".lstrip("/")
        self.url = f"{scheme}://{bucket}/{self._prefix}".rstrip("/")
        if {"", ".", ".."} & set(self._prefix.split("/")[:-1]):
            raise ValueError(f"{self.url} is not a usable files URL: a part of its prefix is empty, . or ..")
        self.staging_root = staging.absolute()
        names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if scheme == "s3" else ("STORAGE_EMULATOR_HOST",)
        self._endpoint = next((os.environ[name] for name in names if os.environ.get(name)), None)
        if self._endpoint and "://" not in self._endpoint:
            self._endpoint = f"http://{self._endpoint}"
        if self._endpoint and not _encrypted_or_loopback(self._endpoint):
            raise ValueError(
                f"{' or '.join(names)} must be an https:// address without credentials;"
                " http:// is for this machine only"
            )

    def publish(self, staged: Sequence[tuple[Path, str]]) -> None:
        moves = [(source, self._key(path)) for source, path in staged]
        with ThreadPoolExecutor(_PARALLEL, "publish") as pool:
            list(pool.map(lambda move: self._upload(*move), moves))

    def _upload(self, source: Path, key: str) -> None:
        import obstore

        with _disk_errors(self.staging_root):
            size = source.stat().st_size
        with self._errors():
            obstore.put(self._store, key, source, chunk_size=_PART_BYTES, max_concurrency=4)
            # A single request arrives whole or not at all; one of many parts is worth a look.
            if size > _PART_BYTES and obstore.head(self._store, key)["size"] != size:
                raise FileStoreError(f"{self.url} did not keep all bytes of a file; try again")
        with _disk_errors(self.staging_root):
            source.unlink()

    def open(self, path: str) -> BinaryIO:
        import obstore

        with self._errors(path):
            reader = obstore.open_reader(self._store, self._key(path), buffer_size=_READ_BYTES)
        return io.BufferedReader(_ObjectStream(reader, self))

    @contextmanager
    def local_copy(self, path: str) -> Iterator[Path]:
        with (
            self.open(path) as stored,
            tempfile.TemporaryDirectory(prefix="copy-") as folder,
        ):
            local = Path(folder) / f"copy{PurePosixPath(path).suffix}"
            with local.open("wb") as copy:
                shutil.copyfileobj(stored, copy, COPY_BYTES)
            yield local

    def size(self, path: str) -> int | None:
        import obstore

        try:
            with self._errors(path):
                return obstore.head(self._store, self._key(path))["size"]
        except StoredFileMissing:
            return None

    def delete(self, path: str) -> None:
        import obstore

        try:
            with self._errors(path):
                obstore.delete(self._store, self._key(path))
        except StoredFileMissing:
            return

    def paths(self) -> Iterator[str]:
        import obstore

        with self._errors():
            for page in obstore.list(self._store, self._prefix or None, chunk_size=1_000):
                for found in page:
                    yield found["path"].removeprefix(self._prefix)

    def _key(self, path: str) -> str:
        return self._prefix + _checked(path)

    @cached_property
    def _store(self) -> S3Store | GCSStore:
        from obstore.store import GCSStore, S3Store

        # The limit on a whole request would cut off large files; a connection that stands still is noticed.
        client = {"timeout": "1 day", "read_timeout": "2 minutes", "connect_timeout": "10 seconds"}
        if self._endpoint and urlsplit(self._endpoint).scheme == "http":
            client |= {"allow_http": True}  # type: ignore[dict-item]
        if self._scheme == "gs":
            if not self._endpoint:
                return GCSStore(self._bucket, client_options=client)  # type: ignore[arg-type]
            return GCSStore(
                self._bucket,
                base_url=self._endpoint,
                credential_provider=_emulator_credentials,
                client_options=client,  # type: ignore[arg-type]
            )
        return S3Store(
            self._bucket,
            region=_aws_session().region_name or "us-east-1",
            endpoint=self._endpoint or "",
            credential_provider=_aws_credentials,
            client_options=client,  # type: ignore[arg-type]
        )

    @contextmanager
    def _errors(self, path: str = "") -> Iterator[None]:
        """Says what went wrong; the library's own messages quote whatever the server answered."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except FileStoreError:
            raise
        except FileNotFoundError:
            if path:
                raise _missing(path) from None
            raise FileStoreError(f"{self.url} cannot be used: there is no such bucket") from None
        except (PermissionDeniedError, UnauthenticatedError):
            raise FileStoreError(self._refused()) from None
        except (BaseError, OSError) as error:
            said = str(error)
            if "403 Forbidden" in said or "401 Unauthorized" in said or _NO_CREDENTIALS in said:
                raise FileStoreError(self._refused()) from None
            if "NoSuchBucket" in said or "404 Not Found" in said:
                raise FileStoreError(f"{self.url} cannot be used: there is no such bucket") from None
            if "301 Moved" in said or "redirect" in said:
                raise FileStoreError(f"{self.url} is in another region: set AWS_REGION to it") from None
            raise FileStoreError(
                f"{self.url} cannot be reached or failed to answer; try again later"
            ) from None

    def _refused(self) -> str:
        return f"{self.url} refuses access: check the credentials in the environment and their rights"


class _ObjectStream(io.RawIOBase):
    """Lets io.BufferedReader read a stored object."""

    def __init__(self, reader: ReadableFile, files: ObjectFiles) -> None:
        self._reader = reader
        self._files = files

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        with self._files._errors():
            data = self._reader.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()


_NO_CREDENTIALS = "there are no AWS credentials"


def _aws_session() -> boto3.session.Session:
    import boto3.session

    return boto3.session.Session()


def _aws_credentials() -> S3Credential:
    """What botocore's chain finds (environment, profile, SSO, container, instance), asked again before it expires."""
    found = _aws_session().get_credentials()
    if found is None:
        raise LookupError(_NO_CREDENTIALS)
    frozen = found.get_frozen_credentials()
    return {
        "access_key_id": str(frozen.access_key),
        "secret_access_key": str(frozen.secret_key),
        "token": frozen.token,
        "expires_at": datetime.now(timezone.utc) + timedelta(minutes=10),
    }


def _emulator_credentials() -> GCSCredential:
    """An emulator asks for no credentials, the library insists on some."""
    return {"token": "emulator", "expires_at": None}


def read_piece(stored: BinaryIO) -> bytes:
    """The next bytes of a stored file that `FileStore.open` has opened, none at its end. Raises FileStoreError,
    also for what a local disk cannot read: whoever copies could not tell that from what it cannot write."""
    try:
        return stored.read(COPY_BYTES)
    except OSError as error:
        raise FileStoreError(f"the stored file cannot be read: {error.strerror or error}") from None


def stored_path(document_id: str, filename: str) -> str:
    """Where the file of a document is stored: `<2 hex>/<id>_<clean name>`.

    `document_id` is a UUID. The same arguments give the same path; the last part is at most 255
    bytes of UTF-8.
    """
    return f"{document_id[:2]}/{document_id}_{clean_name(filename)}"


CLEAN_NAME_BYTES = 255 - len(str(uuid.UUID(int=0))) - 1
_LONGEST_ENDING = 32
_RESERVED = re.compile(
    # https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file
    r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9\u00b9\u00b2\u00b3])\s*(\.|\Z)",
    re.IGNORECASE,
)

# Most names; looking at each character of the others takes a hundred times as long.
_PLAIN = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_ .,()+-]{0,150}[A-Za-z0-9_)])?")


def clean_name(filename: str) -> str:
    """A file name that is harmless in every file system, shell and terminal, like the given one.

    One path component in NFC without control, format or reserved characters, no longer than
    CLEAN_NAME_BYTES, its ending kept; `document` when nothing is left.
    """
    if _PLAIN.fullmatch(filename) and not _RESERVED.match(filename):
        return filename
    while (cleaned := _cleaned(filename)) != filename:
        filename = cleaned
    return filename


def _cleaned(name: str) -> str:
    name = unicodedata.normalize("NFC", name)
    # Categories C* are control, format (bidi too), surrogates, private and unassigned; Zl, Zp break lines.
    name = "".join(
        "_" if character in '<>:"/\\|?*' else character
        for character in name
        if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    )
    name = re.sub(r"\A[\s.\-]+|[\s.]+\Z", "", name)
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending.encode()) > _LONGEST_ENDING:
        stem, dot, ending = name, "", ""
    room = CLEAN_NAME_BYTES - len((dot + ending).encode())
    name = stem.encode()[:room].decode(errors="ignore") + dot + ending
    if _RESERVED.match(name):
        name = f"_{name}"
    return name or "document"


class Staging:
    """The staging folder of one importing process, and its record of what it was about to publish.

    The folder lies locked while the process lives. A folder whose lock can be taken belongs to a
    process that has died: `sweep_dead` then deletes what that process stored but never committed.

    with Staging(store) as staging:
        if staging.has_company():
            Staging.sweep_dead(store, which_are_committed)
        staged = staging.new_file()
        ...                       # write it
        staging.journal([path])   # before publishing
        store.publish([(staged, path)])
        ...                       # commit the transaction
        staging.committed([path])
    """

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._root = store.staging_root
        self._folder = self._root / uuid.uuid4().hex
        self._numbers = count()
        self._open: set[str] = set()
        self._lock = -1

    def __enter__(self) -> Staging:
        self._store.prepare_staging()
        with _disk_errors(self._root), _locked(self._root / _LOCK, fcntl.LOCK_SH):
            self._folder.mkdir(mode=0o700)
            self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Removes the folder. A journal that holds uncommitted paths stays for the next sweep."""
        with _disk_errors(self._root), _locked(self._root / _LOCK, fcntl.LOCK_SH):
            for left in self._folder.iterdir():
                if left.name not in (_LOCK, _JOURNAL):
                    left.unlink(missing_ok=True)
            if not self._open:
                shutil.rmtree(self._folder)
            os.close(self._lock)

    def has_company(self) -> bool:
        """Whether other processes, living or dead, have a staging folder here."""
        with _disk_errors(self._root):
            return any(folder != self._folder for folder in _staging_folders(self._root))

    def new_file(self) -> Path:
        """A path for one arriving file; nothing is there yet. For several threads at once."""
        return self._folder / str(next(self._numbers))

    def journal(self, paths: Sequence[str]) -> None:
        """Records, durably, the stored paths that are about to be published."""
        journal = self._folder / _JOURNAL
        # Not while somebody sweeps: see sweep_dead.
        with _disk_errors(self._root), _locked(self._root / _LOCK, fcntl.LOCK_SH):
            first = not journal.exists()
            with journal.open("ab") as file:
                file.write(b"\n" + json.dumps(list(paths)).encode() + b"\n")
            _sync(journal)
            if first:
                _sync(self._folder)
                _sync(self._root)
        self._open.update(paths)

    def committed(self, paths: Iterable[str]) -> None:
        """Forgets paths that a committed transaction now holds."""
        self._open.difference_update(paths)
        journal = self._folder / _JOURNAL
        if not self._open and journal.exists():
            with _disk_errors(self._root):
                os.truncate(journal, 0)

    @staticmethod
    def sweep_dead(store: FileStore, is_committed: Callable[[Sequence[str]], Collection[str]]) -> None:
        """Deletes what dead processes stored without committing it, and their staging folders.

        `is_committed` returns those of the given paths that the database holds. Call it while no transaction
        stores documents: one of another machine, which has its own staging folder, may be about to commit
        what a process of this one left behind.
        """
        if not store.staging_root.is_dir():
            return
        # Creating, journaling and sweeping exclude each other: a path that a living process has
        # recorded is its own to publish, and one that it records later is published after we are done.
        with _disk_errors(store.staging_root), _locked(store.staging_root / _LOCK, fcntl.LOCK_EX):
            dead: dict[Path, int] = {}
            living: set[str] = set()
            try:
                for folder in _staging_folders(store.staging_root):
                    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        dead[folder] = lock
                    except BlockingIOError:
                        os.close(lock)
                        living.update(*_journaled(folder))
                for folder in dead:
                    for batch in _journaled(folder):
                        doubtful = [path for path in batch if path not in living]
                        for path in set(doubtful).difference(is_committed(doubtful) if doubtful else ()):
                            store.delete(path)
                    shutil.rmtree(folder)
            finally:
                for lock in dead.values():
                    os.close(lock)


_LOCK = ".lock"
_JOURNAL = ".journal"


def _staging_folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.iterdir() if re.fullmatch("[0-9a-f]{32}", folder.name))


def _journaled(folder: Path) -> Iterator[list[str]]:
    """The batches a process recorded."""
    try:
        lines = (folder / _JOURNAL).read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:  # cut short: recording it failed, so nothing of it was published
            continue


@contextmanager
def _locked(lock: Path, kind: int) -> Iterator[None]:
    """Holds a lock between processes and threads alike, waiting for it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def _private_folder(folder: Path) -> None:
    """Makes a folder and those above it, each for this account alone; `Path.mkdir` would make the upper ones public."""
    if folder.is_dir():
        return
    _private_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def _sync(path: Path) -> None:
    """Has the disk itself keep a file or the entries of a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if hasattr(fcntl, "F_FULLFSYNC"):
            # macOS's fsync stops at the drive's cache:
            # https://developer.apple.com/library/archive/documentation/System/Conceptual/ManPages_iPhoneOS/man2/fsync.2.html
            try:
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
                return
            except OSError:
                pass  # a file system that knows only the other one
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checked(path: str) -> str:
    """The path itself. Raises FileStoreError unless it stays within the store."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part or part.startswith(".") for part in parts):
        raise FileStoreError(f"{path!r} is not the path of a stored file")
    return path


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileStoreError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FileStoreError(f"files cannot be kept in {folder}: {reason}") from None


def _missing(path: str) -> StoredFileMissing:
    return StoredFileMissing(f"the stored file {path} is missing")


def _encrypted_or_loopback(url: str) -> bool:
    parts = urlsplit(url)
    if parts.username is not None:
        return False
    if parts.scheme == "https":
        return True
    host = parts.hostname or ""
    try:
        return parts.scheme == "http" and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:
        return False
