"""Holds what a connector sends, and what it is answered, against a vendor's description of the API."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import requests
import yaml
from openapi_core import Config, OpenAPI
from openapi_core.contrib.requests import RequestsOpenAPIRequest, RequestsOpenAPIResponse
from openapi_core.templating.paths.exceptions import PathError
from openapi_core.templating.paths.finders import APICallPathFinder

LOOPBACK = "http://127.0.0.1"


@dataclass
class Exchange:
    """A request and its answer. `path` is as the vendor's own host would be asked, still quoted."""

    method: str
    path: str
    query: Mapping[str, str]
    status: int
    content_type: str = ""
    body: bytes = b""


@dataclass
class Description:
    """Operations of an API in OpenAPI; `used` collects those that an exchange was one of."""

    operations: Mapping[str, Any]
    only_described_properties: bool = True
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._api = OpenAPI.from_dict(
            dict(self.operations),
            config=Config(
                additional_properties_default_policy="forbid" if self.only_described_properties else "allow"
            ),
        )
        self._paths = APICallPathFinder(self._api.spec)

    def ids(self) -> set[str]:
        """Of all operations."""
        return {one["operationId"] for path in self.operations["paths"].values() for one in path.values()}

    def problems(self, exchange: Exchange) -> Iterator[str]:
        """Sentences about what is not as described. Descriptions do not tell all the ways to refuse a
        request: a refusal is looked at as far as it is described."""
        asked = requests.Request(exchange.method, LOOPBACK + exchange.path, params=dict(exchange.query))
        request = RequestsOpenAPIRequest(asked)
        where = f"{exchange.method} {exchange.path}"
        try:
            operation = self._paths.find(exchange.method.lower(), LOOPBACK + exchange.path).operation
        except PathError:
            yield f"{where} is not described"
            return
        described = operation.read_value()
        self.used.add(described["operationId"])
        known = {one.read_value()["name"] for one in operation / "parameters"}
        for name in sorted(set(exchange.query) - known):
            yield f"{where}: there is no parameter {name}"
        for error in self._api.iter_request_errors(request):
            yield f"{where}: {_sentence(error)}"
        statuses = set(map(str, described["responses"]))
        if exchange.status >= 400 and not statuses & {str(exchange.status), f"{exchange.status // 100}XX"}:
            return
        answer = requests.Response()
        answer.status_code = exchange.status
        answer.raw = io.BytesIO(exchange.body)
        answer.headers["Content-Type"] = exchange.content_type
        for error in self._api.iter_response_errors(request, RequestsOpenAPIResponse(answer)):
            yield f"{where}: the answer with status {exchange.status}: {_sentence(error)}"


def _sentence(error: BaseException) -> str:
    """What is wrong stands at the end of the chain."""
    while error.__cause__ is not None and not hasattr(error, "schema_errors"):
        error = error.__cause__
    found = getattr(error, "schema_errors", ())
    return "; ".join(f"{one.json_path}: {one.message}" for one in found) or str(error)


def restated(name: str) -> Description:
    """What a vendor publishes in no package, restated in a file beside this one."""
    return Description(yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text()))


def of_google_cloud_storage() -> Description:
    """The discovery document that comes with Google's client for all its APIs, as OpenAPI. The server is
    not ours: it may say more than is described.

    https://developers.google.com/discovery/v1/reference/apis
    """
    documents = files("googleapiclient") / "discovery_cache" / "documents"
    found = json.loads((documents / "storage.v1.json").read_text())
    common = [_parameter(name, {"location": "query", **one}) for name, one in found["parameters"].items()]
    paths: dict[str, Any] = {}
    for resource in ("buckets", "objects"):
        for method in found["resources"][resource]["methods"].values():
            if method["httpMethod"] != "GET":
                continue
            answer: dict[str, Any] = {"description": ""}
            if "response" in method:
                answer["content"] = {"application/json": {"schema": _schema(method["response"])}}
            parameters = [*common, *(_parameter(*one) for one in method.get("parameters", {}).items())]
            operation = {"operationId": method["id"], "parameters": parameters, "responses": {"200": answer}}
            paths[f"/{found['servicePath']}{method['path']}"] = {"get": operation}
            if method.get("supportsMediaDownload"):
                media = {
                    "operationId": f"{method['id']} as bytes",
                    "parameters": parameters,
                    "responses": {"200": {"description": ""}, "206": {"description": ""}},
                }
                paths[f"/download/{found['servicePath']}{method['path']}"] = {"get": media}
    schemas = {name: _schema(one) for name, one in found["schemas"].items()}
    return Description(
        {
            "openapi": "3.0.3",
            "info": {"title": found["title"], "version": found["version"]},
            "paths": paths,
            "components": {"schemas": schemas},
        },
        only_described_properties=False,
    )


def _parameter(name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": described["type"]}
    if "enum" in described:
        schema["enum"] = described["enum"]
    if "minimum" in described:
        schema["minimum"] = int(described["minimum"])
    required = {"required": True} if described.get("required") else {}
    return {"name": name, "in": described["location"], "schema": schema, **required}


def _schema(described: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema, draft 3, as far as discovery documents use it. Formats such as int64 say what is in
    a string."""
    if "$ref" in described:
        return {"$ref": f"#/components/schemas/{described['$ref']}"}
    if described["type"] == "any":
        return {}
    schema: dict[str, Any] = {"type": described["type"]}
    if described.get("format") in ("date", "date-time"):
        schema["format"] = described["format"]
    elif described["type"] == "string" and str(described.get("format", "")).startswith(("int", "uint")):
        schema["pattern"] = r"^-?\d+$"
    if "items" in described:
        schema["items"] = _schema(described["items"])
    if "properties" in described:
        schema["properties"] = {name: _schema(one) for name, one in described["properties"].items()}
    if "additionalProperties" in described:
        schema["additionalProperties"] = _schema(described["additionalProperties"])
    return schema
