"""Endpoints of the HTTP API about connectors."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/api", tags=["connectors"])
