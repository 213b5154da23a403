"""Pages of the console: sign_in."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
