"""What Jira and Confluence Cloud have in common: the ways to sign in, and what their errors mean.

| `auth` | credentials | requests go to |
|---|---|---|
| token | e-mail and API token | the site |
| scoped_token | e-mail and API token with scopes | the gateway |
| client_credentials | OAuth 2.0 client of a service account | the gateway |
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import requests
from pydantic import Field, field_validator, model_validator

from connectors.base import secret
from connectors.http import HttpConnector, HttpSession, check_url
from connectors.http_answers import RequestFailed
from connectors.http_auth import Bearer, Token, basic, oauth_token
from connectors.http_budget import wait_asked_for

NEEDED = {
    "token": ("email", "api_token"),
    "scoped_token": ("email", "api_token"),
    "client_credentials": ("client_id", "client_secret"),
}
REFUSED = {
    "token": "check email and api_token, and whether the token has expired or been revoked;"
    " a token with scopes needs auth: scoped_token",
    "scoped_token": "check email and api_token, and whether the token has expired or been revoked;"
    " a token without scopes needs auth: token",
    "client_credentials": "check that the service account is active and has access to this site",
}


class AtlassianConnector(HttpConnector):
    """A product of an Atlassian Cloud site.

    Tokens: https://support.atlassian.com/atlassian-account/docs/manage-api-tokens-for-your-atlassian-account/,
    service accounts: https://support.atlassian.com/user-management/docs/manage-api-tokens-for-service-accounts/.
    """

    product: ClassVar[str]
    """As the gateway spells it."""
    scopes: ClassVar[str]
    """The scopes that suffice, for sentences."""

    base_url: str = Field(description="https:// address of the site, such as https://city.atlassian.net.")
    auth: Literal["token", "scoped_token", "client_credentials"] = Field(
        default="token",
        description="How to sign in: with an API token, with one that has scopes, or as the OAuth 2.0"
        " client of a service account.",
    )
    email: str | None = Field(default=None, description="E-mail address of the account that owns the token.")
    api_token: str | None = secret("API token, for token and scoped_token.")
    client_id: str | None = Field(default=None, description="Client id, for client_credentials.")
    client_secret: str | None = secret("Client secret, for client_credentials.")
    cloud_id: str | None = Field(
        default=None, description="Id of the site at the gateway. Empty: the site is asked for it."
    )
    gateway_url: str = Field(
        default="https://api.atlassian.com",
        description="Address of the gateway, for scoped_token and client_credentials.",
    )
    login_url: str = Field(
        default="https://auth.atlassian.com",
        description="Address of the host that gives out tokens, for client_credentials.",
    )

    @field_validator("base_url")
    @classmethod
    def _site(cls, url: str) -> str:
        url = check_url(url).removesuffix("/wiki")
        if urlsplit(url).path:
            raise ValueError("must be the address of the site alone, such as https://city.atlassian.net")
        return url

    @field_validator("gateway_url", "login_url")
    @classmethod
    def _usable_address(cls, url: str) -> str:
        return check_url(url)

    @field_validator("cloud_id")
    @classmethod
    def _usable_cloud_id(cls, cloud_id: str | None) -> str | None:
        if cloud_id and not re.fullmatch(r"[\w-]{1,64}", cloud_id):
            raise ValueError("must be an id such as 11223344-a1b2-3b33-c444-def123456789")
        return cloud_id or None

    @model_validator(mode="after")
    def _enough_to_sign_in(self) -> AtlassianConnector:
        missing = [name for name in NEEDED[self.auth] if not getattr(self, name)]
        if missing:
            raise ValueError(f"auth {self.auth} needs {', '.join(missing)}")
        return self

    @property
    @abstractmethod
    def system(self) -> str:
        """The product and its host, for sentences."""

    def judge(self, answer: requests.Response) -> RequestFailed | None:
        """What an answer means, None where it means what its status says.

        https://developer.atlassian.com/cloud/jira/platform/rate-limiting/
        """
        # Whoever is not recognised may be served as an anonymous visitor: with status 200, and nothing.
        seraph = answer.headers.get("X-Seraph-LoginReason", "")
        if "AUTHENTICATION_DENIED" in seraph:
            return RequestFailed(
                f"{self.system} wants a captcha solved before this account signs in again: log in once in a browser",
                lasting=True,
                status=401,
            )
        if "AUTHENTICATED_FAILED" in seraph:
            return RequestFailed(
                f"{self.system} does not accept the credentials: {REFUSED[self.auth]}",
                lasting=True,
                status=401,
            )
        if answer.status_code == 401:
            if "scope does not match" in str(_body(answer).get("message")):
                return LacksScope(
                    f"{self.system} accepts the credentials, but they lack a scope: make new ones with {self.scopes}",
                    lasting=True,
                )
            return RequestFailed(
                f"{self.system} does not accept the credentials: {REFUSED[self.auth]}", lasting=True
            )
        if answer.status_code == 404 and self.auth != "token" and _body(answer).get("code") == 404:
            return RequestFailed(
                f"{self.system} is not known at the gateway, or lacks this product: check base_url and cloud_id",
                lasting=True,
            )
        reason = answer.headers.get("RateLimit-Reason", "")
        if answer.status_code == 429 and "quota" in reason:
            wait = wait_asked_for(answer.headers)
            return RequestFailed(
                f"{self.system} takes no more requests: its quota is used up"
                + (f" for the next {max(1, round(wait / 60))} minutes" if wait else ""),
                lasting=False,
            )
        return None

    def _open(self) -> HttpSession:
        base_url, setting = self.base_url, "base_url"
        if self.auth != "token":
            base_url = f"{self.gateway_url}/ex/{self.product}/{self.cloud_id or self._cloud_id()}"
            setting = "gateway_url"
        return HttpSession(
            self.system,
            base_url,
            setting=setting,
            auth=Bearer(self._token)
            if self.auth == "client_credentials"
            else basic(str(self.email), str(self.api_token)),
            judge=self.judge,
            **self.session_options(),
        )

    def _cloud_id(self) -> str:
        """https://support.atlassian.com/jira/kb/retrieve-my-atlassian-sites-cloud-id/"""
        http = HttpSession(self.system, self.base_url, **self.session_options())
        try:
            found = http.json("GET", "/_edge/tenant_info")
        finally:
            http.close()
        cloud_id = found.get("cloudId") if isinstance(found, dict) else None
        if not isinstance(cloud_id, str) or not re.fullmatch(r"[\w-]{1,64}", cloud_id):
            raise RequestFailed(
                f"{self.system} does not say its cloud id: check base_url, or set cloud_id", lasting=True
            )
        return cloud_id

    def _token(self) -> Token:
        """https://support.atlassian.com/user-management/docs/create-oauth-2-0-credential-for-service-accounts/"""
        http = HttpSession(
            f"the login of {self.system}",
            self.login_url,
            setting="login_url",
            judge=self._judge_token,
            **self.session_options(),
        )
        form = {
            "grant_type": "client_credentials",
            "client_id": str(self.client_id),
            "client_secret": str(self.client_secret),
        }
        try:
            return oauth_token(http, "/oauth/token", form)
        finally:
            http.close()

    def _judge_token(self, answer: requests.Response) -> RequestFailed | None:
        if answer.status_code not in (400, 401, 403):
            return None
        return RequestFailed(
            f"{self.system} refuses a token: check client_id and client_secret, and that the credential"
            " of the service account has not expired or been revoked",
            lasting=True,
        )


class LacksScope(RequestFailed):
    """The token is a good one, but not for this."""


def moment(value: object) -> datetime:
    """A date of an answer, such as 2026-11-01T12:34:56.789+0000, in UTC. Raises RequestFailed."""
    for pattern in ("%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S%z"):
        try:
            return datetime.strptime(str(value), pattern).astimezone(timezone.utc)
        except ValueError:
            continue
    raise RequestFailed("an answer is not a listing: it has a row without a date", lasting=True)


def stated(row: Mapping[str, Any], name: str) -> str:
    """What every row must state, as text. Raises RequestFailed where one does not."""
    if row.get(name) in (None, ""):
        raise RequestFailed(f"an answer is not a listing: it has a row without {name}", lasting=True)
    return str(row[name])


def names(value: object) -> object:
    """One or several names, for the validators of settings: `HR, LEGAL` is two."""
    if isinstance(value, str):
        value = value.split(",")
    if isinstance(value, list):
        return [name.strip() if isinstance(name, str) else name for name in value if name not in ("", None)]
    return value


def quoted(value: str) -> str:
    """A string of JQL or CQL. Quotes also keep reserved words, such as INT, from being read as such."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _body(answer: requests.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
