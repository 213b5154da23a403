"""Pages from templates, in which everything is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

FOLDER = Path(__file__).parent

templates = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(request: Request, name: str, **values: Any) -> HTMLResponse:
    """The page of a template.

    Templates also find `request`, `caller` (None when nobody is signed in) and `csrf_token`, which
    every form sends as the hidden field `csrf_token` and htmx as the header `X-CSRF-Token`.
    """
    return HTMLResponse(
        templates.get_template(name).render(
            request=request,
            caller=getattr(request.state, "caller", None),
            csrf_token=getattr(request.state, "csrf_token", ""),
            **values,
        )
    )
