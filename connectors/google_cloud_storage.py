"""Documents in a bucket of Google Cloud Storage."""

from __future__ import annotations

import base64
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from dateutil.parser import isoparse
from pydantic import Field, PrivateAttr, model_validator
from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter

from connectors.addresses import OutOfReach, Reach, adapter_within
from connectors.base import (
    ConfigurationError,
    ConnectionStatus,
    Connector,
    Download,
    DownloadFailed,
    ExternalDocument,
    ListingIncomplete,
    NotImported,
    Window,
    secret,
)
from connectors.http import check_url
from connectors.http_budget import LONGEST_WAIT, LONGEST_WAIT_OF_A_TEST, THROTTLED, Budget, wait_asked_for

GOOGLE = "https://storage.googleapis.com"
_OF_GOOGLE = re.compile(r"(?:[a-z0-9-]+\.)+googleapis\.com")
SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
ITEM = (
    "name,generation,size,md5Hash,crc32c,updated,contentType,contentEncoding,storageClass,customerEncryption"
)
FIELDS = f"kind,nextPageToken,items({ITEM})"
PAGE_SIZE = 1000

TIMEOUT = (10, 60)
"""Seconds to connect, and to wait for the next bytes."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0
PATIENCE = 60.0
"""Seconds from the first attempt in which a request is repeated, with growing pauses between."""
BODY_ATTEMPTS = 4
"""How often a body that breaks off after that time is taken up again."""
TEST_PATIENCE = 5.0
PIECE_BYTES = 1_000_000


class GoogleCloudStorage(Connector):
    """Every object of a bucket below a prefix is a document.

    Credentials are, in this order: none when `anonymous`, the service account key, or Google's
    default ones (https://cloud.google.com/docs/authentication/application-default-credentials).
    """

    connector_type = "google_cloud_storage"
    kind = "gcs"

    bucket_name: str = Field(description="The bucket.")
    prefix: str = Field(
        default="", description="Only names that begin like this. End it with / to mean one folder."
    )
    project_id: str | None = Field(
        default=None, description="The Google Cloud project; with requester_pays, the one that pays."
    )
    service_account_key: str | None = secret(
        "JSON key of a service account, or the path of its file. Empty: Google's default credentials."
    )
    anonymous: bool = Field(default=False, description="Read a public bucket without credentials.")
    endpoint_url: str | None = Field(
        default=None, description="https:// address in place of Google's: a private or regional one."
    )
    requester_pays: bool = Field(
        default=False, description="Have project_id pay for reading from a requester-pays bucket."
    )

    _longest_wait: float = PrivateAttr(default=LONGEST_WAIT)
    _made: Any = PrivateAttr(default=None)
    _making: Any = PrivateAttr(default_factory=Lock)

    @model_validator(mode="after")
    def _settings_agree(self) -> GoogleCloudStorage:
        if self.anonymous and (self.service_account_key or self.requester_pays):
            raise ValueError("anonymous excludes service_account_key and requester_pays")
        if self.requester_pays and not self.project_id:
            raise ValueError("requester_pays needs project_id: the project that pays")
        # https://cloud.google.com/storage/docs/buckets#naming
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", self.bucket_name):
            raise ValueError("bucket_name must be the bare name of a bucket, without gs:// or a folder")
        if len(self.prefix.encode()) > 1024 or self.prefix.startswith("gs://"):
            raise ValueError("prefix must be the beginning of names, without gs:// and the bucket")
        if self.endpoint_url:
            try:
                check_url(self.endpoint_url)
            except ValueError as error:
                raise ValueError(f"endpoint_url {error}") from None
        return self

    def test_connection(self) -> ConnectionStatus:
        """Lists one object and asks for it: the right to list does not include the right to read."""
        self._longest_wait = LONGEST_WAIT_OF_A_TEST
        try:
            return self._tested()
        finally:
            self._longest_wait = LONGEST_WAIT

    def _tested(self) -> ConnectionStatus:
        try:
            rows = next(self._pages(1, TEST_PATIENCE), [])
            for row in rows:
                self._document(row)
        except ConfigurationError as error:
            return ConnectionStatus(False, str(error))
        except _vendor_errors() as error:
            return ConnectionStatus(False, self._sentence(error))
        if rows:
            try:
                self._bucket().blob(rows[0]["name"]).reload(timeout=TIMEOUT, retry=_retry(TEST_PATIENCE))
            except _vendor_errors() as error:
                if _status(error) != 404:  # deleted just now
                    return ConnectionStatus(False, self._sentence(error, "storage.objects.get"))
        what = f"below {self.prefix}" if self.prefix else "in it"
        some = "there are objects" if rows else "there is nothing"
        return ConnectionStatus(True, f"bucket {self.bucket_name} can be read; {some} {what}")

    def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
        """Lists all objects, in the order of their names, and filters by the time of the last update.

        That time also moves when only metadata or the storage class change; the version does not.
        https://cloud.google.com/storage/docs/json_api/v1/objects/list
        """
        pages = self._pages(PAGE_SIZE, PATIENCE)
        begun = False
        while True:
            try:
                rows = next(pages, None)
                documents = [self._document(row) for row in rows or []]
            except _vendor_errors() as error:
                sentence = self._sentence(error)
                if not begun and not _is_passing(error):
                    raise ConfigurationError(sentence) from None
                raise ListingIncomplete(f"the listing broke off: {sentence}") from None
            if rows is None:
                return
            begun = True
            for document in documents:
                if document is not None and (window is None or window.includes(document.modified_at)):
                    yield document

    def _pages(self, size: int, patience: float) -> Iterator[list[dict[str, Any]]]:
        listing = self._client().list_blobs(
            self._bucket(),
            prefix=self.prefix or None,
            fields=FIELDS,
            page_size=size,
            timeout=TIMEOUT,
            retry=_retry(patience),
        )
        pages = listing.pages
        seen: set[str] = set()
        while True:
            try:
                page = next(pages, None)
            except (AttributeError, TypeError) as error:  # JSON, but not an object
                raise _NotAListing from error
            if page is None:
                return
            if page.raw_page.get("kind") != "storage#objects":  # would pass for an empty bucket
                raise _NotAListing
            rows = page.raw_page.get("items", [])
            if not all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows):
                raise _NotAListing
            yield rows
            token = listing.next_page_token
            if token in seen:
                raise ListingIncomplete(
                    f"the listing of bucket {self.bucket_name} broke off: the server repeats a page"
                )
            seen.add(token)

    def _document(self, row: Mapping[str, Any]) -> ExternalDocument | None:
        """https://cloud.google.com/storage/docs/json_api/v1/objects#resource"""
        try:
            name, generation, size = row["name"], str(int(row["generation"])), int(row["size"])
            crc32c = row.get("crc32c")
            md5 = base64.b64decode(row.get("md5Hash", ""), validate=True).hex()
            updated = isoparse(row["updated"]).astimezone(timezone.utc)
            content_type = row.get("contentType")
        except (KeyError, TypeError, ValueError) as error:
            raise _NotAListing from error
        if name.endswith("/") and not size:
            return None  # what the console makes to show an empty folder
        metadata = {
            "bucket": self.bucket_name,
            "name": name,
            "storage_class": row.get("storageClass"),
            "crc32c": crc32c,
            "stored_size": size,
        }
        compressed = _is_gzip(row.get("contentEncoding"))
        if compressed:
            metadata["content_encoding"] = "gzip"
        return ExternalDocument(
            external_id=f"gs://{self.bucket_name}/{name}",
            version=generation,
            filename=name.rstrip("/").rpartition("/")[2] or name,
            modified_at=updated,
            size=None if compressed else size,
            # What Google says when the uploader said nothing.
            content_type=None if content_type == "application/octet-stream" else content_type,
            source_url=self._source_url(name),
            checksums={"md5": md5} if md5 and not compressed else {},
            metadata=metadata,
            not_imported=_own_key(row),
        )

    def _source_url(self, name: str) -> str:
        """Where a browser gets the object from, with its user's own rights.

        https://cloud.google.com/storage/docs/request-endpoints#cookieauth
        """
        base = (self.endpoint_url or "https://storage.cloud.google.com").rstrip("/")
        return f"{base}/{self.bucket_name}/{quote(name)}"

    def download_document(self, document: ExternalDocument, into: BinaryIO) -> Download:
        """Reads the listed generation as it is stored, and decompresses what is stored as gzip.

        Google's library goes on from where reading breaks off. What arrived is compared with the size
        and the CRC32C that were listed; those of a compressed object are of its compressed bytes.
        https://cloud.google.com/storage/docs/transcoding
        """
        stored = _StoredBytes(document, into)
        name, generation = str(document.metadata["name"]), int(document.version)
        for attempt in range(BODY_ATTEMPTS):
            before = stored.size
            try:
                self._bucket().blob(name, generation=generation).download_to_file(
                    stored,
                    start=before or None,
                    raw_download=True,
                    checksum=None,
                    timeout=TIMEOUT,
                    retry=_retry(PATIENCE),
                )
                break
            except _vendor_errors() as error:
                progress = stored.size > before and attempt < BODY_ATTEMPTS - 1
                if not (progress and _is_passing(error)):
                    raise self._not_downloaded(error) from None
        stored.finish()
        return Download()

    def _bucket(self) -> Any:
        return self._client().bucket(
            self.bucket_name, user_project=self.project_id if self.requester_pays else None
        )

    def _client(self) -> Any:
        with self._making:
            if self._made is None:
                self._made = self._make_client()
            return self._made

    def _make_client(self) -> Any:
        from google.cloud import storage  # type: ignore[import-untyped]

        # Else the library asks for the bucket itself, beside each listing, which takes another right.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        credentials = self._credentials()
        endpoint = (self.endpoint_url or GOOGLE).rstrip("/")
        return storage.Client(
            project=self.project_id or None,
            credentials=credentials,
            _http=self._session(credentials),
            # Named here, so that STORAGE_EMULATOR_HOST and what the key says of it count for nothing.
            client_options={"api_endpoint": endpoint, "universe_domain": credentials.universe_domain},
        )

    def _credentials(self) -> Any:
        """Raises ConfigurationError for a key that is none, and errors of google-auth."""
        import google.auth
        from google.auth.credentials import AnonymousCredentials
        from google.oauth2 import service_account

        if self.anonymous:
            return AnonymousCredentials()
        if self.service_account_key:
            info = _key(self.service_account_key)
            try:
                found = service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])
            except (ValueError, TypeError, AttributeError):
                raise ConfigurationError(
                    "the private key in service_account_key cannot be read: take the file as Google gave it"
                ) from None
        else:
            found, _ = google.auth.default(scopes=[SCOPE])
        return _renewed(found)

    def _session(self, credentials: Any) -> Any:
        """One session for all threads, and one budget: where one is told to wait, all do."""
        import requests
        from google.auth.credentials import AnonymousCredentials
        from google.auth.transport.requests import AuthorizedSession, Request

        for_tokens = requests.Session()
        renewed = () if isinstance(credentials, AnonymousCredentials) else (401,)
        session = AuthorizedSession(credentials, renewed, auth_request=Request(for_tokens))
        for each in (session, for_tokens):
            each.max_redirects = 0
            each.auth = _as_it_is
        in_flight = self.concurrency + 1
        budget = Budget(in_flight, None, FIRST_PAUSE)
        for scheme in ("https://", "http://"):
            within = adapter_within(self._reach, in_flight)
            session.mount(scheme, _Budgeted(within, budget, lambda: self._longest_wait))
            if self.service_account_key:
                # The key says where tokens are had; without one it is the cloud's metadata service.
                for_tokens.mount(scheme, adapter_within(self._reach, 1))
        return session

    def keep_to(self, reach: Reach) -> None:
        """Whoever configures a source of the console chooses neither the file of a key nor who gets to
        see this machine's credentials."""
        super().keep_to(reach)
        if reach.networks is None or self.anonymous:
            return
        if self.service_account_key and not _is_json(self.service_account_key):
            try:
                reach.check_file(self.service_account_key)
            except OutOfReach as error:
                raise ConfigurationError(f"{self.connector_type}: service_account_key: {error}") from None
        host = urlsplit(self.endpoint_url or GOOGLE).hostname or ""
        if not self.service_account_key and not _OF_GOOGLE.fullmatch(host.rstrip(".")):
            raise ConfigurationError(
                f"{self.connector_type}: endpoint_url: the credentials of this machine are not for {host}: give"
                " service_account_key, or set anonymous"
            )

    def close(self) -> None:
        with self._making:
            if self._made is not None:
                self._made.close()
                self._made = None

    def _not_downloaded(self, error: Exception) -> DownloadFailed:
        if _status(error) == 404:
            return DownloadFailed("changed or gone since it was listed; the next import takes what there is")
        if re.search("cloud ?kms|kmskey", _said(error)):
            return DownloadFailed(
                "encrypted with a Cloud KMS key that is disabled, destroyed or withdrawn from Cloud Storage"
            )
        return DownloadFailed(self._sentence(error, "storage.objects.get"))

    def _sentence(self, error: Exception, permission: str = "storage.objects.list") -> str:
        """What happened and what to do, in words of our own: messages of others may hold secrets."""
        import requests
        from google.auth import exceptions as auth
        from urllib3.exceptions import HTTPError

        where = f"bucket {self.bucket_name}" + (f" at {self.endpoint_url}" if self.endpoint_url else "")
        error = _cause(error)
        if isinstance(error, OutOfReach):
            return f"{where} is not asked: {error}"
        if isinstance(error, _AskedToWait):
            return f"{where} takes no more requests before {error.until:%Y-%m-%d %H:%M} UTC: start again then"
        if status := _status(error):
            return f"{where} {self._refusal(status, _said(error), permission)}"
        if isinstance(error, auth.GoogleAuthError):
            return f"{where} cannot be used: {self._credential_problem(error)}"
        if isinstance(error, _NotAListing | requests.exceptions.JSONDecodeError):
            return f"{where} answered with something that is not a listing: check endpoint_url"
        if isinstance(error, requests.TooManyRedirects):
            return f"{where} leads to another address, which is not followed: check endpoint_url"
        if isinstance(error, requests.exceptions.SSLError):
            return f"{where} has no certificate that this machine trusts: check endpoint_url and the network"
        if isinstance(error, HTTPError):
            return f"{where} breaks the connection off again and again: check the network"
        return f"{where} cannot be reached: check endpoint_url and the network"

    def _refusal(self, status: int, said: str, permission: str) -> str:
        """https://cloud.google.com/storage/docs/json_api/v1/status-codes"""
        if "requester pays" in said:
            return "is a requester-pays bucket: set requester_pays and project_id"
        if status in (401, 403) and self.anonymous:
            return f"is not public: {permission} needs credentials, so leave anonymous out"
        if status == 401:
            return "does not accept the credentials: check whose they are, and endpoint_url"
        if "serviceusage" in said or "user project" in said:
            return f"cannot be read at the costs of project {self.project_id}: give the account the role" + (
                " roles/serviceusage.serviceUsageConsumer there"
            )
        if "organization's policy" in said or "vpcservicecontrols" in said:
            return "may not be read from here: a policy of the organization (VPC Service Controls) forbids it"
        if "billing" in said:
            return "cannot be read: the billing account of its project is closed or in arrears"
        if status == 403:
            return f"refuses access: give the account {permission}, which roles/storage.objectViewer includes"
        if status == 404:
            return "does not exist: check bucket_name" + (" and endpoint_url" if self.endpoint_url else "")
        if status == 429 or status >= 500 or status == 408:
            return f"is out of order or takes no more requests (status {status}): try again later"
        return f"does not accept the request (status {status}): check the settings"

    def _credential_problem(self, error: Exception) -> str:
        """https://cloud.google.com/iam/docs/troubleshoot-tokens, by what the token endpoint said."""
        from google.auth import exceptions as auth

        whose = "service_account_key" if self.service_account_key else "the default credentials"
        said = " ".join(str(part) for part in error.args).lower()
        if isinstance(error, auth.TransportError):
            return f"the address that gives tokens for {whose} cannot be reached: check the network"
        if getattr(error, "retryable", False):
            return f"the address that gives tokens for {whose} is out of order: try again later"
        if "invalid_grant" in said and "account" in said:
            return f"the account of {whose} is deleted or disabled: restore it or take another"
        if "invalid_grant" in said and "timeframe" in said:
            return "the clock of this machine is wrong: set it"
        if "invalid_grant" in said:
            return f"{whose} is no longer valid (deleted, disabled or expired): make a new one"
        if isinstance(error, auth.RefreshError):
            return f"there is no token for {whose}: check that they belong to Google Cloud and are complete"
        if isinstance(error, auth.DefaultCredentialsError):
            return (
                "it needs credentials and none were found: set service_account_key, give this machine"
                " default credentials, or set anonymous"
            )
        return f"{whose} cannot be used ({type(error).__name__})"


class _NotAListing(Exception):
    """The answer is not what a listing looks like."""


class _AskedToWait(Exception):
    """For longer than a run should sleep."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.until = datetime.fromtimestamp(time.time() + seconds, timezone.utc)


class _Budgeted(BaseAdapter):
    """Sends requests when the budget has a place; an answer of 429 or 503 closes it for as long as its
    Retry-After says. https://cloud.google.com/storage/docs/retry-strategy"""

    def __init__(self, adapter: BaseAdapter, budget: Budget, longest_wait: Callable[[], float]) -> None:
        super().__init__()
        self._adapter = adapter
        self._budget = budget
        self._longest_wait = longest_wait

    def send(self, request: PreparedRequest, *arguments: Any, **options: Any) -> Response:
        with self._budget.turn() as turn:
            answer = self._adapter.send(request, *arguments, **options)
            if answer.status_code not in THROTTLED:
                self._budget.succeeded()
                return answer
            wait = wait_asked_for(answer.headers)
            if wait is not None and wait > self._longest_wait():
                answer.close()
                raise _AskedToWait(wait)
            self._budget.close(turn, wait)
            return answer

    def close(self) -> None:
        self._adapter.close()


class _StoredBytes:
    """What Google's library writes an object to: counts and digests the bytes as they are stored, and
    passes them on as a person would get them."""

    def __init__(self, document: ExternalDocument, into: BinaryIO) -> None:
        import google_crc32c

        self.size = 0
        self._into = into
        self._expected_size = int(document.metadata["stored_size"])
        self._expected_crc32c = document.metadata["crc32c"]
        self._crc32c = google_crc32c.Checksum()
        self._gzip = zlib.decompressobj(wbits=31) if "content_encoding" in document.metadata else None

    def write(self, data: bytes) -> int:
        self.size += len(data)
        if self.size > self._expected_size:
            raise DownloadFailed(f"more bytes arrived than the {self._expected_size} that were listed")
        self._crc32c.update(data)
        if self._gzip is None:
            return self._into.write(data)
        try:
            self._decompress(data)
        except zlib.error:
            raise DownloadFailed("it is labelled as compressed (Content-Encoding gzip) and is not") from None
        return len(data)

    def _decompress(self, data: bytes) -> None:
        while data and self._gzip is not None:
            if self._gzip.eof:
                self._gzip = zlib.decompressobj(wbits=31)  # gzip files may follow each other
            self._into.write(self._gzip.decompress(data, PIECE_BYTES))
            data = self._gzip.unconsumed_tail or self._gzip.unused_data

    def seek(self, position: int) -> None:
        """The library begins again where a server decompresses on its own: there will be too many bytes."""

    def finish(self) -> None:
        """Raises DownloadFailed unless everything arrived unaltered."""
        if self.size != self._expected_size:
            raise DownloadFailed(f"{self.size} bytes arrived of the {self._expected_size} that were listed")
        if self._expected_crc32c not in (None, base64.b64encode(self._crc32c.digest()).decode()):
            raise DownloadFailed("the CRC32C checksum of the bytes that arrived is not the listed one")
        if self._gzip is not None and self.size:
            self._into.write(self._gzip.flush())
            if not self._gzip.eof:
                raise DownloadFailed("its compressed content (Content-Encoding gzip) ends too early")


def _is_gzip(content_encoding: Any) -> bool:
    return str(content_encoding).strip().lower() in ("gzip", "x-gzip")


def _own_key(row: Mapping[str, Any]) -> NotImported | None:
    """https://cloud.google.com/storage/docs/encryption/customer-supplied-keys"""
    if "customerEncryption" not in row:
        return None
    return NotImported("encrypted with a key of its owner's (CSEK), which cannot be given here", refused=True)


def _is_json(setting: str) -> bool:
    """Whether a key is given as it is, and not as the path of its file."""
    return setting.lstrip().startswith("{")


def _key(setting: str) -> dict[str, Any]:
    """The content of a service account key that is given as JSON or as a path.

    Raises ConfigurationError unless it is one whose tokens come from an address that may be asked.
    """
    text = setting
    if not _is_json(setting):
        try:
            text = Path(setting).read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise ConfigurationError(
                "service_account_key is neither the JSON of a key nor the path of a file that can be read"
            ) from None
    try:
        info = json.loads(text)
    except ValueError:
        raise ConfigurationError(
            "service_account_key does not hold valid JSON: take the file as Google gave it"
        ) from None
    found = info.get("type") if isinstance(info, dict) else None
    if found != "service_account":
        said = f" ({found})" if isinstance(found, str) and re.fullmatch("[a-z_]{1,40}", found) else ""
        raise ConfigurationError(
            f"service_account_key is the key of something else{said}: it must be that of a service account"
        )
    for name in ("client_email", "private_key", "token_uri"):
        if not isinstance(info.get(name), str):
            raise ConfigurationError(f"service_account_key lacks {name}: take the file as Google gave it")
    try:
        check_url(info["token_uri"])
    except ValueError as error:
        raise ConfigurationError(f"token_uri in service_account_key {error}") from None
    return dict(info)


def _renewed(source: Any) -> Any:
    """These credentials, without what google-auth does beside obtaining tokens.

    With each request it would ask iamcredentials.googleapis.com for the account's allowed locations,
    whatever the endpoint: https://google.aip.dev/auth
    """
    from google.auth import credentials, exceptions

    class Renewed(credentials.Credentials):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]

        @property
        def universe_domain(self) -> str:
            return str(source.universe_domain)

        def refresh(self, request: Any) -> None:
            try:
                source.refresh(request)
            except (AttributeError, KeyError, TypeError, ValueError):
                raise exceptions.RefreshError(
                    "an answer without a token, or a key that cannot sign"
                ) from None
            self.token, self.expiry = source.token, source.expiry

    return Renewed()


def _as_it_is(request: Any) -> Any:
    """Keeps requests from putting credentials of a .netrc file in."""
    return request


def _retry(patience: float) -> Any:
    """https://cloud.google.com/storage/docs/retry-strategy"""
    from google.cloud.storage.retry import DEFAULT_RETRY  # type: ignore[import-untyped]

    return DEFAULT_RETRY.with_delay(FIRST_PAUSE, LONGEST_PAUSE, 2).with_timeout(patience)


def _vendor_errors() -> tuple[type[Exception], ...]:
    import requests
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from urllib3.exceptions import HTTPError

    return (
        GoogleAPIError,
        GoogleAuthError,
        requests.RequestException,
        HTTPError,
        OutOfReach,
        _AskedToWait,
        _NotAListing,
    )


def _cause(error: Exception) -> Exception:
    from google.api_core.exceptions import RetryError

    return error.cause if isinstance(error, RetryError) and error.cause else error


def _status(error: Exception) -> int:
    """The HTTP status of an answer that is an error, else 0."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.storage.exceptions import InvalidResponse  # type: ignore[import-untyped]

    error = _cause(error)
    if isinstance(error, GoogleAPICallError):
        return int(error.code or 0)
    return int(error.response.status_code) if isinstance(error, InvalidResponse) else 0


def _said(error: Exception) -> str:
    """The answer to a request, in lower case. For comparing, not for telling."""
    return str(getattr(getattr(_cause(error), "response", None), "text", "")).lower()


def _is_passing(error: Exception) -> bool:
    """Whether it may well be over by the next import, with the same settings."""
    import requests
    from google.auth.exceptions import RefreshError, TransportError
    from urllib3.exceptions import HTTPError

    error = _cause(error)
    if status := _status(error):
        return status in (408, 429) or status >= 500
    if isinstance(error, RefreshError):
        return bool(error.retryable)
    passing = requests.ConnectionError, requests.Timeout, HTTPError, TransportError, _AskedToWait
    return isinstance(error, passing) and not isinstance(error, requests.exceptions.SSLError)
