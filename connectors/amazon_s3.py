"""Documents in a bucket of Amazon S3, or of any store that speaks its protocol."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import cache, partial
from ipaddress import ip_address
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast
from urllib.parse import quote, unquote_plus, urlsplit

from pydantic import Field, PrivateAttr, model_validator

from connectors.addresses import OutOfReach, Reach, pools_within
from connectors.base import (
    ConfigurationError,
    ConnectionStatus,
    Connector,
    Download,
    DownloadFailed,
    DownloadRefused,
    ExternalDocument,
    ListingIncomplete,
    NotImported,
    Window,
    secret,
)
from connectors.http_budget import LONGEST_WAIT, LONGEST_WAIT_OF_A_TEST, THROTTLED, Budget, wait_asked_for

if TYPE_CHECKING:
    from botocore.config import Config
    from botocore.credentials import Credentials
    from botocore.hooks import BaseEventHooks
    from botocore.loaders import Loader
    from botocore.response import StreamingBody
    from botocore.session import Session
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ObjectTypeDef
    from obstore import Bytes
    from obstore.store import S3Credential, S3Store

PIECE_BYTES = 1_000_000
REQUEST_ATTEMPTS = 5
BODY_ATTEMPTS = 4
QUICK_BYTES = 4_000_000
QUICK_PAUSE_SECONDS = 30.0

CONSOLES = {"aws-cn": "console.amazonaws.cn", "aws-us-gov": "console.amazonaws-us-gov.com"}

# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList,
# https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
CREDENTIAL_PROBLEMS = {
    "InvalidAccessKeyId": "the access key id is not known there: check access_key_id",
    "InvalidClientTokenId": "the access key id is not known there: check access_key_id",
    "UnrecognizedClientException": "the access key id is not known there: check access_key_id",
    "SignatureDoesNotMatch": "the secret access key is not the one of this key id: check secret_access_key",
    "IncompleteSignature": "the secret access key is not the one of this key id: check secret_access_key",
    "ExpiredToken": "the temporary credentials have expired: renew them",
    "ExpiredTokenException": "the temporary credentials have expired: renew them",
    "TokenRefreshRequired": "the temporary credentials have expired: renew them",
    "InvalidToken": "the session token is not valid: check session_token",
    "RequestTimeTooSkewed": "the clock of this machine is wrong: set it",
    "NotSignedUp": "the account is not signed up for Amazon S3",
    "AccountProblem": "there is a problem with the AWS account: its owner must contact AWS",
}
# https://docs.aws.amazon.com/general/latest/gr/s3.html. Other names below amazonaws.com are those of
# customers' machines.
_AMAZON = re.compile(
    r"(?:[a-z0-9-]+\.)*s3[a-z0-9-]*(?:\.dualstack)?(?:\.[a-z]+(?:-[a-z]+)+-\d+)?(?:\.vpce)?\.amazonaws\.com(?:\.cn)?"
)
_MD5 = re.compile("[0-9a-f]{32}")
CHANGED = "changed since it was listed; the next import takes the new version"
WRONG_REGION = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "301",
}


class AmazonS3(Connector):
    """Every object of a bucket below a prefix is a document.

    Credentials are, in this order: none when `anonymous`, the key pair, the profile, or what boto3
    finds by itself (https://docs.aws.amazon.com/boto3/latest/guide/credentials.html). With
    `role_arn` they are used to assume that role.
    """

    connector_type = "amazon_s3"
    kind = "s3"

    bucket_name: str = Field(description="The bucket.")
    region: str | None = Field(default=None, description="The bucket's region, such as eu-central-1.")
    prefix: str = Field(
        default="", description="Only keys that begin like this. End it with / to mean one folder."
    )
    access_key_id: str | None = Field(
        default=None, description="Access key id. Empty: boto3's default chain."
    )
    secret_access_key: str | None = secret("The secret that belongs to access_key_id.")
    session_token: str | None = secret("Session token, where the key pair is a temporary one.")
    profile_name: str | None = Field(default=None, description="A profile of the AWS configuration files.")
    role_arn: str | None = Field(
        default=None, description="A role to assume: arn:aws:iam::ACCOUNT:role/NAME."
    )
    external_id: str | None = Field(default=None, description="External id that the role's owner asks for.")
    anonymous: bool = Field(default=False, description="Read a public bucket without credentials.")
    endpoint_url: str | None = Field(
        default=None, description="https:// address of an S3-compatible store. Empty: Amazon S3."
    )
    requester_pays: bool = Field(
        default=False, description="Accept the costs of reading from a requester-pays bucket."
    )

    concurrency: int = Field(default=32, ge=1, le=64, description="Downloads under way at once.")

    _made: Any = PrivateAttr(default=None)
    _making: Any = PrivateAttr(default_factory=Lock)
    _session: Any = PrivateAttr(default=None)
    _quick: Any = PrivateAttr(default=None)
    _quick_from: float = PrivateAttr(default=0.0)
    _longest_wait: float = PrivateAttr(default=LONGEST_WAIT)
    _etag_is_md5: bool = PrivateAttr(default=True)

    @model_validator(mode="after")
    def _settings_agree(self) -> AmazonS3:
        keys = bool(self.access_key_id), bool(self.secret_access_key)
        if keys[0] != keys[1]:
            raise ValueError("access_key_id and secret_access_key are only of use together")
        if self.session_token and not all(keys):
            raise ValueError("session_token needs access_key_id and secret_access_key")
        if self.profile_name and any(keys):
            raise ValueError("give either access_key_id and secret_access_key or profile_name, not both")
        if self.anonymous and (any(keys) or self.profile_name or self.role_arn):
            raise ValueError("anonymous excludes keys, profile_name and role_arn")
        if self.external_id and not self.role_arn:
            raise ValueError("external_id is of use with role_arn only")
        if self.role_arn and not re.fullmatch(r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+", self.role_arn):
            raise ValueError("role_arn must look like arn:aws:iam::123456789012:role/name")
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, older names included
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", self.bucket_name):
            raise ValueError("bucket_name must be the bare name of a bucket, without s3:// or a folder")
        if len(self.prefix.encode()) > 1024 or self.prefix.startswith("s3://"):
            raise ValueError("prefix must be the beginning of keys, without s3:// and the bucket")
        if self.endpoint_url and not _usable_endpoint(self.endpoint_url):
            raise ValueError(
                "endpoint_url must be an https:// address without credentials or a query;"
                " http:// is for this machine only"
            )
        return self

    def test_connection(self) -> ConnectionStatus:
        self._longest_wait = LONGEST_WAIT_OF_A_TEST
        try:
            some = "there are objects" if any(self._page({"MaxKeys": 1}).entries) else "there is nothing"
        except ListingIncomplete as error:
            return ConnectionStatus(False, str(error))
        except _vendor_errors() as error:
            return ConnectionStatus(False, self._sentence(error))
        finally:
            self._longest_wait = LONGEST_WAIT
        what = f"below {self.prefix}" if self.prefix else "in it"
        return ConnectionStatus(True, f"bucket {self.bucket_name} can be listed; {some} {what}")

    def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
        """Lists all keys, in their order, and filters by the time of the last modification.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
        """
        with ThreadPoolExecutor(1, "list") as ahead:
            next_page = ahead.submit(self._page, {})
            token: str | None = None
            seen: set[str] = set()
            source_url: Callable[[str], str] | None = None
            while True:
                try:
                    page = next_page.result()
                except _vendor_errors() as error:
                    sentence = self._sentence(error)
                    if token is None and not _is_passing(error):
                        raise ConfigurationError(sentence) from None
                    raise ListingIncomplete(f"the listing broke off: {sentence}") from None
                token = page.next_token
                if token and token not in seen and not page.is_last:
                    next_page = ahead.submit(self._page, {"ContinuationToken": token})
                source_url = source_url or self._source_url()
                for entry in page.entries:
                    document = self._document(entry, source_url)
                    if document is not None and (window is None or window.includes(document.modified_at)):
                        yield document
                if page.is_last:
                    return
                if not token or token in seen:
                    raise ListingIncomplete(
                        f"the listing of bucket {self.bucket_name} broke off: the server says there is more"
                        f" and {'repeats itself' if token else 'not where'}"
                    )
                seen.add(token)

    def _page(self, more: dict[str, Any]) -> _Page:
        from botocore.parsers import ResponseParserError

        # boto3 asks for EncodingType=url by itself and decodes the keys that it reads itself.
        page = self._client().list_objects_v2(
            Bucket=self.bucket_name,
            Prefix=self.prefix,
            OptionalObjectAttributes=["RestoreStatus"],
            **self._payer(),
            **more,
        )
        if "IsTruncated" not in page:  # a login page parses as well, and would pass for an empty bucket
            raise ResponseParserError
        entries: Iterable[ObjectTypeDef] = page.get("Contents", [])
        unread: str | None = cast("dict[str, Any]", page).get(UNREAD)
        if unread is not None:
            entries = self._entries(unread, encoded=page.get("EncodingType") == "url")
        return _Page(entries, page.get("NextContinuationToken"), not page.get("IsTruncated"))

    def _entries(self, contents: str, encoded: bool) -> Iterator[ObjectTypeDef]:
        try:
            for content in contents.split("</Contents>")[:-1]:
                yield _entry(content.lstrip(), encoded)
        except (KeyError, ValueError):
            raise ListingIncomplete(
                f"the listing of bucket {self.bucket_name} broke off: the server lists something that is not"
                " an object with a key, a size and a time"
            ) from None

    def _document(self, entry: ObjectTypeDef, source_url: Callable[[str], str]) -> ExternalDocument | None:
        key, size = entry["Key"], entry["Size"]
        if key.endswith("/") and not size:
            return None  # what consoles make to show an empty folder
        etag = entry.get("ETag", "").strip('"')
        modified_at = _utc(entry["LastModified"])
        storage_class = entry.get("StorageClass", "STANDARD")
        return ExternalDocument(
            external_id=f"s3://{self.bucket_name}/{key}",
            # The ETag is what stands before the last colon, if the store keeps any.
            version=f"{etag}:{size}" if etag else f":{size}-{modified_at:%Y%m%dT%H%M%S.%fZ}",
            filename=key.rstrip("/").rpartition("/")[2] or key,
            modified_at=modified_at,
            size=size,
            source_url=source_url(key),
            metadata={"bucket": self.bucket_name, "key": key, "storage_class": storage_class},
            not_imported=_archived(entry),
        )

    def _source_url(self) -> Callable[[str], str]:
        """What makes the address of an object from its key."""
        if self.endpoint_url:
            folder = f"{self.endpoint_url.rstrip('/')}/{self.bucket_name}/"
            return lambda key: folder + quote(key)
        meta = self._client().meta
        console = CONSOLES.get(meta.partition, "console.aws.amazon.com")
        region = meta.region_name
        page = f"https://{region}.{console}/s3/object/{self.bucket_name}?region={region}&prefix="
        return lambda key: page + quote(key, safe="")

    def download_document(self, document: ExternalDocument, into: BinaryIO) -> Download:
        """Reads the object if it still has the listed ETag; where reading breaks off, it goes on from there.

        boto3 compares a checksum of the whole object that the server declares. The ETag is compared
        where it is known to be the MD5 of the bytes: not for uploads in parts, not under KMS or a
        customer's key, not in directory buckets.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
        """
        key = document.external_id.removeprefix(f"s3://{self.bucket_name}/")
        etag, _, _ = document.version.rpartition(":")
        found = self._get_quickly(key, etag, document.size)
        if found is not None:
            content, said = found
            into.write(content)
            return Download(content_type=_content_type(said), size=len(content))
        written = 0
        md5 = hashlib.md5(usedforsecurity=False)
        may_be_md5 = _MD5.fullmatch(etag)
        for _ in range(BODY_ATTEMPTS):
            try:
                answer = self._get(key, etag, written)
            except _vendor_errors() as error:
                raise self._not_downloaded(error) from None
            body = answer["Body"]
            try:
                for piece in _pieces(body):
                    into.write(piece)
                    if may_be_md5:
                        md5.update(piece)
                    written += len(piece)
            except _BrokenOff:
                continue
            finally:
                body.close()
            if _is_md5(etag, answer, self.bucket_name):
                if md5.hexdigest() != etag:
                    raise DownloadFailed(
                        "the MD5 checksum of the bytes that arrived is not the one that Amazon S3 states"
                    )
            else:
                self._etag_is_md5 = False
            return _download(answer, written)
        raise DownloadFailed(f"the connection broke off {BODY_ATTEMPTS} times while the document was read")

    def _get_quickly(self, key: str, etag: str, size: int | None) -> tuple[Bytes, str | None] | None:
        """The bytes of a small object and their content type, by obstore, which takes a fraction of
        boto3's time; None when boto3 must try.

        They count only if they have the MD5 checksum that the ETag states. Whatever else happens is
        left to boto3: it knows the reasons, and slows all requests down for a server that is busy.
        """
        from obstore import get
        from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, PreconditionError

        may = self._etag_is_md5 and size is not None and size <= QUICK_BYTES and _MD5.fullmatch(etag)
        if self.endpoint_url and self._reach.networks is not None:
            return None  # it follows redirects, which may lead out of reach
        if not may or self.requester_pays or time.monotonic() < self._quick_from:
            return None
        store = self._quick_store()
        if store is None:
            return None
        try:
            answer = get(store, key, options={"if_match": f'"{etag}"'})
            content = answer.bytes()
        except (FileNotFoundError, NotFoundError, PermissionDeniedError, PreconditionError):
            return None
        except (BaseError, OSError, ValueError):
            self._quick_from = time.monotonic() + QUICK_PAUSE_SECONDS
            return None
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != etag:
            return None
        return content, answer.attributes.get("Content-Type")

    def _quick_store(self) -> S3Store | None:
        """obstore's client, with the endpoint, region and credentials that boto3 has found; None where it must
        not be used."""
        client = self._client()
        with self._making:
            if self._quick is None:
                credentials = None if self.anonymous else self._session.get_credentials()
                if self.endpoint_url and credentials and credentials.get_frozen_credentials().token:
                    self._quick_from = math.inf  # it follows redirects, and takes that token along
                    return None
                self._quick = self._make_quick_store(client)
            made: S3Store = self._quick
            return made

    def _make_quick_store(self, client: S3Client) -> S3Store:
        from obstore.store import S3Store

        endpoint = urlsplit(client.meta.endpoint_url)
        # Path style is what custom endpoints know, and what a name with dots needs for its certificate.
        by_host = not self.endpoint_url and "." not in self.bucket_name
        host = f"{self.bucket_name}.{endpoint.netloc}" if by_host else endpoint.netloc
        options: Any = {"connect_timeout": "10 seconds", "timeout": "1 minute"}
        if endpoint.scheme == "http":
            options["allow_http"] = True
        credentials = self._session.get_credentials()
        return S3Store(
            self.bucket_name,
            endpoint=f"{endpoint.scheme}://{host}",
            region=client.meta.region_name,
            virtual_hosted_style_request=by_host,
            client_options=options,
            retry_config={"max_retries": 0},
            **(
                {"skip_signature": True}
                if self.anonymous
                else {"credential_provider": _provider(credentials)}
            ),
        )

    def _get(self, key: str, etag: str, start: int) -> GetObjectOutputTypeDef:
        pinned: dict[str, Any] = {"IfMatch": f'"{etag}"'} if etag else {}
        if start and not etag:
            raise DownloadFailed(
                "the connection broke off, and without an ETag the rest may be that of another version"
            )
        if start:
            pinned["Range"] = f"bytes={start}-"
        answer = self._client().get_object(
            Bucket=self.bucket_name, Key=key, ChecksumMode="ENABLED", **pinned, **self._payer()
        )
        said = answer.get("ETag", "").removeprefix("W/").strip('"')
        if etag and said not in ("", etag):  # not every store heeds If-Match
            answer["Body"].close()
            raise DownloadFailed(CHANGED)
        if start and not answer.get("ContentRange", "").startswith(f"bytes {start}-"):
            answer["Body"].close()
            raise DownloadFailed("the connection broke off and the server cannot go on where it did")
        return answer

    def _payer(self) -> dict[str, Any]:
        return {"RequestPayer": "requester"} if self.requester_pays else {}

    def _client(self) -> S3Client:
        with self._making:
            if self._made is None:
                self._made = self._make_client()
            made: S3Client = self._made
            return made

    def _make_client(self) -> S3Client:
        from botocore.session import Session

        session = Session(profile=self.profile_name or None)
        session.register_component("data_loader", _service_models())
        if self.access_key_id and self.secret_access_key:
            session.set_credentials(self.access_key_id, self.secret_access_key, self.session_token or None)
        region = self.region or session.get_config_variable("region") or "us-east-1"
        if self.role_arn:
            session = _with_role(session, region, self.role_arn, self.external_id)
        endpoint = self.endpoint_url or None
        made = session.create_client("s3", region, endpoint_url=endpoint, config=self._config())
        # Before botocore's own, for all of S3, which look for an error in the page.
        made.meta.events.register("before-parse.*.ListObjectsV2", _leave_contents_unread)
        self._heed_retry_after(made.meta.events)
        self._stay_within_reach(made)
        self._session = session
        return cast("S3Client", made)

    def keep_to(self, reach: Reach) -> None:
        """Whoever configures a source of the console does not choose who gets to see this machine's
        credentials."""
        super().keep_to(reach)
        if reach.networks is None or not self.endpoint_url or self.anonymous or self.access_key_id:
            return
        host = urlsplit(self.endpoint_url).hostname or ""
        if not _AMAZON.fullmatch(host.rstrip(".")):
            raise ConfigurationError(
                f"{self.connector_type}: endpoint_url: the credentials of this machine are not for {host}: give"
                " access_key_id and secret_access_key, or set anonymous"
            )

    def _stay_within_reach(self, client: Any) -> None:
        """Names are looked at whenever a connection is made. botocore has no setting for that."""
        from botocore.awsrequest import AWSHTTPConnectionPool, AWSHTTPSConnectionPool

        if self._reach.networks is not None:
            pools = pools_within(self._reach, AWSHTTPConnectionPool, AWSHTTPSConnectionPool)
            client._endpoint.http_session._manager.pool_classes_by_scheme = pools

    def _heed_retry_after(self, events: BaseEventHooks) -> None:
        """Amazon names no time, but stores of others do, and botocore does not heed it. All threads wait."""
        budget = Budget(self.concurrency + 1, None, 0.0)

        def wait(**_: Any) -> None:
            with budget.turn():
                pass

        def listen(response_dict: Mapping[str, Any] | None, **_: Any) -> None:
            if response_dict is None or response_dict["status_code"] not in THROTTLED:
                return
            seconds = wait_asked_for(response_dict["headers"])
            if seconds is not None:
                seconds = min(seconds, self._longest_wait)
                budget.close(0, seconds)
                self._quick_from = max(self._quick_from, time.monotonic() + seconds)

        events.register_first("request-created.s3", wait)  # before it is signed, which is not for long
        events.register("response-received.s3", listen)

    def _config(self) -> Config:
        """https://botocore.amazonaws.com/v1/documentation/api/latest/reference/config.html"""
        from botocore import UNSIGNED
        from botocore.config import Config

        options: dict[str, Any] = {
            # One budget for all threads: throttling slows them together.
            "retries": {"mode": "adaptive", "total_max_attempts": REQUEST_ATTEMPTS},
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": self.concurrency,
            # AWS_ENDPOINT_URL may be meant for the file store; a source says itself where it is.
            "ignore_configured_endpoint_urls": True,
        }
        if self.anonymous:
            options["signature_version"] = UNSIGNED
        if self.endpoint_url:
            options["s3"] = {"addressing_style": "path"}
            # Many of these stores do not know the newer checksums.
            options["request_checksum_calculation"] = "when_required"
            options["response_checksum_validation"] = "when_required"
        return Config(**options)

    def close(self) -> None:
        with self._making:
            if self._made is not None:
                self._made.close()
                self._made = self._quick = None

    def _not_downloaded(self, error: Exception) -> DownloadFailed | DownloadRefused:
        code, status = _code(error)
        if code == "InvalidObjectState":
            return DownloadRefused("archived: it must be restored in S3 before it can be read")
        if code == "PreconditionFailed" or status == 412:
            return DownloadFailed(CHANGED)
        if code == "NoSuchKey" or (status == 404 and code != "NoSuchBucket"):
            return DownloadFailed("gone since it was listed")
        if code.startswith("KMS") or _names_key(error):
            return DownloadFailed(
                "encrypted, and the rights for its key are missing: allow kms:Decrypt to these credentials"
            )
        if code == "AccessDenied" or (status == 403 and code not in CREDENTIAL_PROBLEMS):
            return DownloadFailed(
                "may not be read: allow s3:GetObject to these credentials, and kms:Decrypt if it is encrypted"
            )
        return DownloadFailed(self._sentence(error))

    def _sentence(self, error: Exception) -> str:
        """What happened and what to do, in words of our own: servers and botocore quote credentials."""
        from botocore import exceptions as vendor
        from botocore.parsers import ResponseParserError

        where = f"bucket {self.bucket_name}" + (f" at {self.endpoint_url}" if self.endpoint_url else "")
        if isinstance(error, vendor.ClientError):
            code, status = _code(error)
            if code in CREDENTIAL_PROBLEMS:
                return f"{where} cannot be used: {CREDENTIAL_PROBLEMS[code]}"
            if error.operation_name == "AssumeRole":
                return "the role may not be assumed: check role_arn, external_id and the role's trust policy"
            if code == "NoSuchBucket":
                return f"{where} does not exist: check bucket_name, region and endpoint_url"
            if code in WRONG_REGION or status == 301:
                region = str(error.response["Error"].get("Region", ""))
                known = f" ({region})" if re.fullmatch(r"[a-z]{2}[a-z-]+-\d", region) else ""
                return f"{where} is in another region{known}: set region to it"
            if code == "AccessDenied" or status in (401, 403):
                return f"{where} refuses access: allow s3:ListBucket and s3:GetObject to these credentials"
            return f"{where} answered {code} (status {status}); try again later"
        if isinstance(error, vendor.NoCredentialsError | vendor.PartialCredentialsError):
            return f"{where} needs credentials and none were found: set a key pair, a profile or a role, or anonymous"
        if isinstance(error, vendor.ProfileNotFound):
            return (
                f"there is no AWS profile {self.profile_name or 'of the name in AWS_PROFILE'} on this machine"
            )
        if isinstance(error, _credential_errors()):
            return "the credentials of the AWS configuration or machine could not be obtained: renew or correct them"
        if isinstance(error, ResponseParserError | RecursionError):
            return f"{where} answered with something that is not a listing: check endpoint_url"
        if isinstance(error, vendor.HTTPClientError) and isinstance(error.kwargs.get("error"), OutOfReach):
            return f"{where} is not asked: {error.kwargs['error']}"
        if isinstance(error, vendor.ConnectionError | vendor.HTTPClientError):
            return f"{where} cannot be reached: check endpoint_url, region and the network"
        return f"{where} cannot be used: {type(error).__name__}; check the settings"


@cache
def _service_models() -> Loader:
    """botocore's descriptions of the services; reading them is most of the work of making a client."""
    from botocore.loaders import create_loader

    return create_loader()


def _with_role(own: Session, region: str, role_arn: str, external_id: str | None) -> Session:
    """A session with the credentials of the role, obtained when needed and renewed before they expire.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    """
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
    from botocore.exceptions import NoCredentialsError
    from botocore.session import Session

    credentials = own.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    fetcher = AssumeRoleCredentialFetcher(
        partial(own.create_client, region_name=region),
        credentials,
        role_arn,
        extra_args={"RoleSessionName": "citysort"} | ({"ExternalId": external_id} if external_id else {}),
    )

    class RoleCredentials:
        def load_credentials(self) -> DeferredRefreshableCredentials:
            return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")

    session = Session()
    session.register_component("data_loader", _service_models())
    session.register_component("credential_provider", RoleCredentials())
    return session


def _provider(credentials: Credentials | None) -> Callable[[], S3Credential]:
    """Tells obstore the credentials that botocore has, and renews when they are about to expire."""
    from botocore.exceptions import NoCredentialsError

    def provide() -> S3Credential:
        if credentials is None:
            raise NoCredentialsError
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": str(frozen.access_key),
            "secret_access_key": str(frozen.secret_key),
            "token": frozen.token,
            "expires_at": datetime.now(timezone.utc) + timedelta(minutes=10),
        }

    return provide


UNREAD = "UnreadContents"
_FIELD = re.compile(r"<(\w+)>([^<&]*)</\1>")


class _Page(NamedTuple):
    """Of a listing. The entries are read as they are needed, while the next page is on its way."""

    entries: Iterable[ObjectTypeDef]
    next_token: str | None
    is_last: bool


def _leave_contents_unread(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """Takes the entries out of a page; reading them takes botocore twenty times as long.

    All else stays for botocore to read: whether there is more, errors, what is no XML, and pages in which a
    character is written as anything but itself. With EncodingType=url only the quotes of ETags are.
    """
    body: bytes = response_dict["body"]
    start, end = body.find(b"<Contents>"), body.rfind(b"</Contents>") + len(b"</Contents>")
    if not 0 <= start < end or not body.isascii() or b"<!" in body or b"\r" in body:
        return
    contents = body[start:end].decode().replace("&#34;", '"').replace("&quot;", '"')
    if "&" in contents:
        return
    response_dict["body"] = body[:start] + body[end:]
    customized_response_dict[UNREAD] = contents


def _entry(content: str, encoded: bool) -> ObjectTypeDef:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html. Raises KeyError or ValueError when
    something is missing or not as it should be."""
    if not content.startswith("<Contents>"):
        raise ValueError
    found: dict[str, str] = dict(_FIELD.findall(content))
    entry: ObjectTypeDef = {
        "Key": unquote_plus(found["Key"]) if encoded else found["Key"],
        "Size": int(found["Size"]),
        "LastModified": _time(found["LastModified"]),
        "ETag": found.get("ETag", ""),
        "RestoreStatus": {"IsRestoreInProgress": found.get("IsRestoreInProgress") == "true"},
    }
    if "StorageClass" in found:
        entry["StorageClass"] = found["StorageClass"]  # type: ignore[typeddict-item]
    if found.get("RestoreExpiryDate"):
        entry["RestoreStatus"]["RestoreExpiryDate"] = _time(found["RestoreExpiryDate"])
    return entry


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:  # as not every store writes it
        from botocore.utils import parse_timestamp

        return parse_timestamp(text)


def _utc(moment: datetime) -> datetime:
    """Some stores leave the zone out."""
    return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _archived(entry: ObjectTypeDef) -> NotImported | None:
    """Why an object cannot be read now: https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html.

    The listing does not tell which objects of INTELLIGENT_TIERING are archived; reading them does.
    """
    restore = entry.get("RestoreStatus", {})
    if restore.get("IsRestoreInProgress"):
        return NotImported("archived: it is being restored, the next import takes it when that is done", True)
    if entry.get("StorageClass") not in ("GLACIER", "DEEP_ARCHIVE"):
        return None
    until = restore.get("RestoreExpiryDate")
    if until is not None and _utc(until) > datetime.now(timezone.utc):
        return None
    return NotImported("archived: it must be restored in S3 before it can be read", True)


class _BrokenOff(Exception):
    """The connection ended before the body did."""


def _pieces(body: StreamingBody) -> Iterator[bytes]:
    from botocore.exceptions import FlexibleChecksumError

    while True:
        try:
            piece = body.read(PIECE_BYTES)
        except FlexibleChecksumError:
            raise DownloadFailed(
                "the bytes that arrived do not have the checksum that Amazon S3 declares for them"
            ) from None
        except _vendor_errors():
            raise _BrokenOff from None
        if not piece:
            return
        yield piece


def _is_md5(etag: str, answer: GetObjectOutputTypeDef, bucket: str) -> bool:
    return bool(
        _MD5.fullmatch(etag)
        and answer.get("ServerSideEncryption", "AES256") == "AES256"
        and not answer.get("SSECustomerAlgorithm")
        and not bucket.endswith("--x-s3")
    )


def _download(answer: GetObjectOutputTypeDef, written: int) -> Download:
    total = answer.get("ContentRange", "").rpartition("/")[2]  # an answer to a Range has its own length
    return Download(
        content_type=_content_type(answer.get("ContentType")),
        size=int(total) if total.isdigit() else answer.get("ContentLength", written),
    )


def _content_type(said: str | None) -> str | None:
    # What S3 says when the uploader said nothing.
    return None if said == "binary/octet-stream" else said


def _usable_endpoint(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return (
        bool(parts.hostname)
        and (parts.scheme == "https" or (parts.scheme == "http" and loopback))
        and not (parts.username or parts.password or parts.query or parts.fragment)
    )


def _code(error: Exception) -> tuple[str, int]:
    response: Any = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return (code if re.fullmatch(r"[A-Za-z.]{1,60}|\d{3}", code) else "an error"), status


def _names_key(error: Exception) -> bool:
    response: Any = getattr(error, "response", None) or {}
    message = str(response.get("Error", {}).get("Message", "")).lower()
    return "kms" in message or "server side encryption" in message


def _is_passing(error: Exception) -> bool:
    """Whether it may well be over by the next import, with the same settings."""
    _, status = _code(error)
    return status == 429 or status >= 500


def _vendor_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    # Redirected, botocore asks for the bucket's region; redirected again, it never stops asking.
    return BotoCoreError, ClientError, ResponseParserError, HTTPError, OSError, RecursionError


def _credential_errors() -> tuple[type[Exception], ...]:
    from botocore import exceptions as vendor

    return (
        vendor.CredentialRetrievalError,
        vendor.TokenRetrievalError,
        vendor.NoAuthTokenError,
        vendor.ConfigParseError,
        vendor.InvalidConfigError,
        vendor.MetadataRetrievalError,
        vendor.RefreshWithMFAUnsupportedError,
        vendor.SSOError,
        vendor.UnknownCredentialError,
    )
