"""Errors as RFC 9457 problem documents, and as pages for people with a browser.

https://www.rfc-editor.org/rfc/rfc9457
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from citysort_dagster.document_list import UnknownDocument
from citysort_dagster.document_search import CursorInvalid
from citysort_dagster.files import FileStoreError
from citysort_dagster.pipeline.rules import RulesError
from citysort_dagster.quoting import dotted
from citysort_dagster.review import ReviewConflict
from citysort_dagster.secrets import SecretUnavailable
from citysort_dagster.settings import SettingsError
from citysort_dagster.source_configs import SourceUnchangeable, UnknownSource
from citysort_dagster.sources_file import SourceInvalid
from citysort_dagster.store.database import DatabaseError
from connectors.base import ConfigurationError, unexpected

log = logging.getLogger("citysort.web")

STATUS_OF: Mapping[type[Exception], int] = {
    ConfigurationError: 422,
    CursorInvalid: 422,
    DatabaseError: 503,
    FileStoreError: 503,
    ReviewConflict: 409,
    RulesError: 500,
    SecretUnavailable: 503,
    SettingsError: 500,
    SourceUnchangeable: 409,
    UnknownDocument: 404,
    UnknownSource: 404,
}
"""The expected errors of CitySort, each of which is one sentence for a person."""


class ProblemDocument(BaseModel):
    """What is told instead of an answer."""

    type: str
    title: str
    status: int
    detail: str | None = Field(default=None, description="One sentence for a person.")
    errors: list[dict[str, str]] | None = Field(
        default=None, description="What is wrong (message) with which field (field)."
    )


DESCRIBED: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {"application/problem+json": {"schema": ProblemDocument.model_json_schema()}},
    }
    for status, description in (
        ("4XX", "Something is wrong with the request; a problem document says what."),
        ("5XX", "Something is wrong here; a problem document says what."),
    )
}
"""The same for the description of the API."""


class Problem(Exception):
    """What is told instead of an answer. `title` is a few words, `detail` one sentence without any
    secret; `errors` says what is wrong with which field."""

    def __init__(
        self,
        status: int,
        title: str | None = None,
        detail: str | None = None,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.status = status
        self.title = title or HTTPStatus(status).phrase
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})


def wants_page(request: Request) -> bool:
    """Whether a browser asks for one of the console's pages."""
    return not request.url.path.startswith(("/api", "/metrics", "/static"))


def answer(request: Request, problem: Problem) -> Response:
    """The problem as the asker can read it."""
    if not wants_page(request):
        body: dict[str, object] = {"type": "about:blank", "title": problem.title, "status": problem.status}
        if problem.detail:
            body["detail"] = problem.detail
        if problem.errors:
            body["errors"] = [dict(error) for error in problem.errors]
        return JSONResponse(
            body,
            status_code=problem.status,
            headers=problem.headers,
            media_type="application/problem+json",
        )
    if problem.status == 401:
        there = "/sign-in"
        if request.method == "GET":
            there += f"?next={quote(request.url.path)}"
        if "HX-Request" in request.headers:
            return Response(status_code=401, headers={"HX-Redirect": there})
        return RedirectResponse(there, status_code=303)
    from citysort_dagster.web.templating import page

    if "HX-Request" in request.headers:
        # htmx shows nothing of an answer that is an error: it is told where to put this one.
        response = page(request, "problem.html", problem=problem)
        response.headers.update({"HX-Retarget": "#main", "HX-Reswap": "afterbegin", "HX-Reselect": ".notice"})
        return response
    response = page(request, "error.html", problem=problem)
    response.status_code = problem.status
    response.headers.update(problem.headers)
    return response


def add_problem_handlers(app: FastAPI) -> None:
    """Makes every error of the application a problem document."""

    async def of_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(request, error)

    async def of_framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = {
            404: f"There is nothing at {request.url.path[:200]!r}.",
            405: f"{request.method} is not possible here.",
        }.get(error.status_code)
        return answer(request, Problem(error.status_code, detail=detail, headers=error.headers))

    async def of_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # Neither the input nor a message that quotes it: either may be a secret in the wrong place.
        errors = [
            {"field": dotted(fault["loc"]), "message": str(fault["msg"])[:200]} for fault in error.errors()
        ]
        return answer(
            request,
            Problem(422, "Not understood", "The request is not as the API describes it.", errors=errors),
        )

    async def of_source(request: Request, error: Exception) -> Response:
        assert isinstance(error, SourceInvalid)
        faults = [{"field": fault.field, "message": fault.message} for fault in error.faults]
        return answer(request, Problem(422, "Not a usable source", str(error), errors=faults))

    async def of_expected(request: Request, error: Exception) -> Response:
        return answer(request, Problem(_status_of(error), detail=_sentence(error)))

    app.add_exception_handler(Problem, of_problem)
    app.add_exception_handler(HTTPException, of_framework)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(SourceInvalid, of_source)
    for kind in STATUS_OF:
        app.add_exception_handler(kind, of_expected)


def unforeseen(request: Request, error: Exception) -> Response:
    """The answer when CitySort itself has failed: its text may hold anything, a secret too."""
    log.error("%s %s: %s", request.method, request.url.path, unexpected(error))
    return answer(
        request, Problem(500, detail="CitySort has failed at this; its log says where, please report it.")
    )


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def _status_of(error: Exception) -> int:
    return next(status for kind, status in STATUS_OF.items() if isinstance(error, kind))
