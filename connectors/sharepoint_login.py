"""How an Entra application signs in to SharePoint, with a secret or a certificate."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from connectors.base import ConfigurationError
from connectors.http import HttpSession
from connectors.http_answers import RequestFailed, json_of
from connectors.http_auth import Token

LOGIN_ERRORS = {
    7000215: "does not accept client_secret: enter the value of the secret, not its id",
    7000222: "says that client_secret has expired: create a new one, or better a certificate",
    700016: "knows no application {client_id} in the tenant {tenant_id}: check client_id and tenant_id",
    7000229: "has no enterprise application for {client_id} in the tenant: an administrator must consent to it",
    7000112: "says that the application {client_id} is disabled: an administrator must enable it",
    90002: "has no tenant {tenant_id}: check tenant_id, and authority_url where the tenant is in a national cloud",
    900023: "has no tenant {tenant_id}: check tenant_id",
    700027: "does not accept the certificate: upload it to the application, and check thumbprint, and that it"
    " has not expired",
    700030: "does not accept the certificate: upload it to the application",
    1000502: "says that the certificate has expired or is not valid yet: upload a new one",
    700024: "says that the signed request is too old or of the future: check the clock of this machine",
    700023: "says that the signed request is for somebody else: check authority_url and tenant_id",
    500011: "does not know {resource} in the tenant: check {settings}, which must belong together",
    53003: "blocks the application by a conditional access policy: an administrator must allow this machine",
}
"""https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes"""


def names_a_file(certificate: str) -> bool:
    """Whether a key is given as the path of its file, and not as it is."""
    return "-----BEGIN" not in certificate


def credential_of(
    client_secret: str | None, certificate: str | None, thumbprint: str | None
) -> str | dict[str, str]:
    """What MSAL takes. Raises ConfigurationError when it is no key."""
    if client_secret:
        return client_secret
    pem = str(certificate).replace("\\n", "\n")
    if names_a_file(pem):
        try:
            pem = Path(pem).read_text()
        except (OSError, ValueError):
            raise ConfigurationError(
                "certificate is neither a key in PEM nor a file that can be read"
            ) from None
    try:
        key = load_pem_private_key(pem.encode(), None)
    except TypeError:
        raise ConfigurationError(
            "the private key in certificate has a passphrase: store it without one"
        ) from None
    except ValueError:
        raise ConfigurationError("certificate holds no private key in PEM (a .pfx is none)") from None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigurationError(
            "the private key in certificate is no RSA key, the only kind that Entra takes"
        )
    held = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pem, re.DOTALL)
    if held is None:
        if not thumbprint:
            raise ConfigurationError("certificate holds only the private key: thumbprint is needed, too")
        return {"private_key": pem, "thumbprint": thumbprint}
    try:
        found = x509.load_pem_x509_certificate(held[0].encode())
    except ValueError:
        raise ConfigurationError("certificate holds a certificate that cannot be read") from None
    if found.not_valid_after_utc < datetime.now(timezone.utc):
        raise ConfigurationError(
            f"the certificate expired on {found.not_valid_after_utc:%Y-%m-%d}: upload a new one"
        )
    if thumbprint not in (None, found.fingerprint(hashes.SHA1()).hex().upper()):  # noqa: S303
        raise ConfigurationError("thumbprint is not that of the certificate")
    return {"private_key": pem, "public_certificate": held[0]}


class Login(NamedTuple):
    """An application and what it signs in to. `settings` names those that say which resource that is."""

    authority_url: str
    tenant_id: str
    client_id: str
    resource: str
    settings: str

    def token(self, credential: str | dict[str, str], session_options: Mapping[str, Any]) -> Token:
        """An access token for the resource. Raises RequestFailed.

        https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow"""
        from msal import ConfidentialClientApplication  # type: ignore[import-untyped]

        http = HttpSession(
            self._system(), self.authority_url, setting="authority_url", judge=self._judge, **session_options
        )
        with closing(http):
            try:
                found = ConfidentialClientApplication(
                    self.client_id,
                    client_credential=credential,
                    authority=f"{self.authority_url}/{self.tenant_id}",
                    instance_discovery=False,
                    http_client=_LoginHost(http),
                ).acquire_token_for_client([f"{self.resource}/.default"])
                return Token(found["access_token"], float(found["expires_in"]))
            except (KeyError, TypeError, ValueError):
                raise RequestFailed(
                    f"{http.system} answers, but not as a login host does: check authority_url", lasting=True
                ) from None

    def _system(self) -> str:
        return f"Microsoft Entra ({urlsplit(self.authority_url).hostname})"

    def _judge(self, answer: requests.Response) -> RequestFailed | None:
        if answer.status_code not in (400, 401, 403, 404):
            return None
        body = json_of(answer)
        if not isinstance(body, dict) or not body.get("error"):
            return None
        code = re.match(r"AADSTS(\d{1,9})", str(body.get("error_description")))
        what = "refuses a token: check the application"
        if code:
            what = LOGIN_ERRORS.get(int(code[1]), f"{what} (error {code[0]})")
        return RequestFailed(f"{self._system()} {what.format(**self._asdict())}", lasting=True)


class _LoginHost:
    """MSAL's way to the login host leads through a session of ours, which repeats, waits and judges.

    https://learn.microsoft.com/en-us/python/api/msal/msal.application.confidentialclientapplication"""

    class Answer(NamedTuple):
        status_code: int
        text: str
        headers: Mapping[str, str]

    def __init__(self, http: HttpSession) -> None:
        self._http = http

    def get(self, url: str, **how: Any) -> _LoginHost.Answer:
        return self._asked("GET", url, **how)

    def post(self, url: str, **how: Any) -> _LoginHost.Answer:
        return self._asked("POST", url, **how)

    def _asked(
        self, method: str, url: str, params: Any = None, headers: Any = None, data: Any = None, **_: Any
    ) -> _LoginHost.Answer:
        page = self._http.page(method, url, params=params, headers=headers, data=data)
        return self.Answer(200, json.dumps(page.body), page.headers)

    def close(self) -> None:
        """The session is closed by whom it belongs to."""
