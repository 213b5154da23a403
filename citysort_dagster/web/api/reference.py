"""The description of the API: as OpenAPI, and as a page made from it that loads nothing from elsewhere."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from citysort_dagster.web.access import Viewer
from citysort_dagster.web.templating import page

router = APIRouter(prefix="/api", include_in_schema=False)


@router.get("/openapi.json")
def openapi(request: Request, caller: Viewer) -> dict[str, Any]:
    """https://spec.openapis.org/oas/v3.1.0"""
    description: dict[str, Any] = request.app.openapi()
    return description


@router.get("/docs")
def reference(request: Request, caller: Viewer) -> HTMLResponse:
    """Every endpoint with what it takes and gives."""
    description = request.app.openapi()
    operations = [
        {"method": method.upper(), "path": path, **operation}
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    tags = list(dict.fromkeys(tag for operation in operations for tag in operation.get("tags", ["other"])))
    return page(
        request,
        "reference.html",
        info=description["info"],
        sections=[
            (tag, [operation for operation in operations if tag in operation.get("tags", ["other"])])
            for tag in tags
        ],
        models=description.get("components", {}).get("schemas", {}),
        name_of=_name_of,
    )


def _name_of(schema: dict[str, Any]) -> str:
    """What a person calls a schema: `Source`, `list of Source`, `text`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_name_of(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_name_of(schema.get('items', {}))}"
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    known = {"string": "text", "integer": "whole number", "object": "object", "null": "null"}
    kind = str(schema.get("type", "anything"))
    return f"{known.get(kind, kind)}{' (' + schema['format'] + ')' if 'format' in schema else ''}"
