"""Talks to a running CitySort: where it is, what its Dagster answers, that its sources have changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import requests

from citysort_dagster.lock_file import is_held
from citysort_dagster.settings import Settings

CODE_LOCATION = "citysort"
_CONNECT_SECONDS = 2
_RELOAD = """mutation Reload($name: String!) {
  reloadRepositoryLocation(repositoryLocationName: $name) {
    __typename
    ... on WorkspaceLocationEntry { locationOrLoadError { __typename ... on PythonError { message } } }
  }
}"""


def running_url(settings: Settings) -> str | None:
    """The address of the Dagster UI that `citysort up` serves for this data folder, None when it does not."""
    state = settings.data_dir / "up.json"
    try:
        # What one that was killed has left is held by nobody, whoever has its process id now.
        return str(json.loads(state.read_bytes())["url"]).rstrip("/") if is_held(state) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def ask(url: str, query: str, variables: Mapping[str, Any], read_seconds: float) -> Any:
    """The `data` of what the webserver at this address answers to a GraphQL query.

    Raises requests.RequestException, and ValueError, KeyError or TypeError for an answer of another shape.
    https://docs.dagster.io/api/graphql
    """
    with requests.Session() as session:
        session.trust_env = False  # neither proxies nor .netrc have a part in this
        response = session.post(
            f"{url}/graphql",
            json={"query": query, "variables": variables},
            timeout=(_CONNECT_SECONDS, read_seconds),
            allow_redirects=False,
        )
        response.raise_for_status()
        return response.json()["data"]


def reload_definitions(settings: Settings) -> str | None:
    """Makes a running CitySort load its definitions anew; what is not running needs no telling.

    Returns None when all is well, else one sentence saying that the change shows only later, and why.
    """
    url = running_url(settings)
    if url is None:
        return None
    later = f"the change is saved, but the running CitySort at {url} has not taken it up"
    try:
        answer = ask(url, _RELOAD, {"name": CODE_LOCATION}, read_seconds=30)["reloadRepositoryLocation"]
        loaded = answer.get("locationOrLoadError") or answer
        outcome = str(loaded["__typename"])
    except requests.RequestException as error:
        return f"{later} ({type(error).__name__}): reload its code location there, or restart it"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{later}: its answer was not understood; restart it"
    if outcome != "RepositoryLocation":
        return f"{later} ({outcome}): see Deployment in its UI"
    return None
