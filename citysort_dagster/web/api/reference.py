"""Endpoints of the HTTP API about reference."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/api", tags=["reference"])
