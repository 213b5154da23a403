"""The application: every page of the console and every endpoint of the HTTP API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

from citysort_dagster.installation import Installation
from citysort_dagster.web.access import Guard, new_doorway
from citysort_dagster.web.api import connectors, documents, health, imports, reference, sources
from citysort_dagster.web.console import documents as documents_pages
from citysort_dagster.web.console import review as review_pages
from citysort_dagster.web.console import sign_in
from citysort_dagster.web.console import sources as sources_pages
from citysort_dagster.web.defences import Defences
from citysort_dagster.web.dependencies import LazyInstance
from citysort_dagster.web.problems import DESCRIBED, add_problem_handlers
from citysort_dagster.web.templating import FOLDER

SHOWS_A_TOKEN = Security(HTTPBearer(auto_error=False, description="A token of `citysort token create`."))
"""For the description of the API alone: access.Guard looks at every token."""


def create_app(installation: Installation, *, loopback: bool = True, hosts: Collection[str] = ()) -> FastAPI:
    """The application that serves an installation.

    `loopback`: it listens on this machine alone. `hosts` are names that it is reached by otherwise,
    through a reverse proxy for instance; with any of them it counts as reachable from elsewhere.
    """
    instance = LazyInstance(installation)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(instance.close)

    app = FastAPI(
        lifespan=lifespan,
        title="CitySort",
        description="Connect the systems a city's documents lie in, import them, look at them, review them.",
        version="1",
        docs_url=None,  # its page loads scripts from elsewhere; web/api/reference.py has our own
        redoc_url=None,
        openapi_url=None,
        responses=DESCRIBED,
    )
    app.state.installation = installation
    app.state.instance = instance
    app.state.sign_in_attempts = sign_in.Attempts()
    app.state.doorway = doorway = new_doorway(loopback and not hosts)
    add_problem_handlers(app)
    for router in (connectors.router, sources.router, imports.router, documents.router, health.figures):
        app.include_router(router, dependencies=[SHOWS_A_TOKEN])
    for router in (
        health.router,
        reference.router,
        sources_pages.router,
        documents_pages.router,
        review_pages.router,
        sign_in.router,
    ):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    app.add_middleware(Guard, installation=installation, doorway=doorway)
    app.add_middleware(Defences, loopback=loopback, hosts=hosts)
    return app
