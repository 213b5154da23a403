"""Tells a running CitySort that its sources have changed."""

from __future__ import annotations

import json

import psutil
import requests

from citysort_dagster.settings import Settings

CODE_LOCATION = "citysort"
_TIMEOUT_SECONDS = (2, 30)
_RELOAD = """mutation Reload($name: String!) {
  reloadRepositoryLocation(repositoryLocationName: $name) {
    __typename
    ... on WorkspaceLocationEntry { locationOrLoadError { __typename ... on PythonError { message } } }
  }
}"""


def running_url(settings: Settings) -> str | None:
    """The address of the Dagster UI that `citysort up` serves for this data folder, None when it does not."""
    try:
        running = json.loads((settings.data_dir / "up.json").read_bytes())
        return str(running["url"]).rstrip("/") if psutil.pid_exists(running["pid"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def reload_definitions(settings: Settings) -> str | None:
    """Makes a running CitySort load its definitions anew; what is not running needs no telling.

    Returns None when all is well, else one sentence saying that the change shows only later, and why.
    https://docs.dagster.io/api/graphql
    """
    url = running_url(settings)
    if url is None:
        return None
    later = f"the change is saved, but the running CitySort at {url} has not taken it up"
    try:
        with requests.Session() as session:
            session.trust_env = False  # neither proxies nor .netrc have a part in this
            response = session.post(
                f"{url}/graphql",
                json={"query": _RELOAD, "variables": {"name": CODE_LOCATION}},
                timeout=_TIMEOUT_SECONDS,
                allow_redirects=False,
            )
            response.raise_for_status()
            answer = response.json()["data"]["reloadRepositoryLocation"]
            loaded = answer.get("locationOrLoadError") or answer
            outcome = str(loaded["__typename"])
    except requests.RequestException as error:
        return f"{later} ({type(error).__name__}): reload its code location there, or restart it"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{later}: its answer was not understood; restart it"
    if outcome != "RepositoryLocation":
        return f"{later} ({outcome}): see Deployment in its UI"
    return None
