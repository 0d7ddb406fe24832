"""The OpenAPI document, made from the routes themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from hacore import __version__
from hacore.control.registry import Route, strict
from hacore.control.schemas import API_HEADER, API_VERSION, Refusal

REFERENCE = "#/components/schemas/{name}"
ERRORS = {
    "400": "The request is not what this takes.",
    "403": "No certificate, one that is not trusted any more, or not the right.",
    "404": "There is no such thing.",
    "405": "The method is not for this path.",
    "408": "The rest of the request did not come in time.",
    "409": "It conflicts with something that is going on, or with this node's state.",
    "413": "The body is too large.",
    "415": "The body is no JSON.",
    "417": "What the request expects is not given here.",
    "422": "A value is out of its bounds.",
    "429": "Too many attempts; wait.",
    "500": "A fault of this node.",
    "502": "A peer could not be asked.",
    "503": "A part of this node does not answer.",
    "504": "A peer, or a part of this node, did not answer in time.",
    "507": "A disk has no room for it.",
}


def document(routes: Sequence[Route], root: str, name: str) -> dict[str, Any]:
    """OpenAPI 3.1 of these routes, served under `root` by the node `name`."""
    kinds = list(_kinds(routes))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
    found = dict(zip(map(id, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(root + route.path, {})[route.method.lower()] = _operation(route, found)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"hacore node API of {name}", "version": f"{API_VERSION} (hacore {__version__})"},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "certificate": {"type": "mutualTLS", "description": "The certificate of a paired node."}
            },
        },
    }


def _kinds(routes: Iterable[Route]) -> Iterable[Any]:
    seen: set[int] = set()
    for kind in [Refusal, *(kind for route in routes for kind in (_asked(route), route.response))]:
        if kind is not None and id(kind) not in seen:
            seen.add(id(kind))
            yield kind


def _asked(route: Route) -> Any:
    return None if route.request is None else strict(route.request)


def _operation(route: Route, found: dict[int, Any]) -> dict[str, Any]:
    media = "application/x-ndjson" if route.streams else "application/json"
    refusal = {"content": {"application/json": {"schema": found[id(Refusal)]}}}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "parameters": [*_parameters(route), *([_VERSION] if route.path != "/node" else [])],
        "responses": {
            "200": {"description": "Done.", "content": {media: {"schema": found[id(route.response)]}}},
            **{status: {"description": text, **refusal} for status, text in ERRORS.items()},
        },
        "security": [] if route.needs == "anyone" else [{"certificate": []}],
        "x-hacore-needs": route.needs,
    }
    if route.raw_body:
        binary = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": binary}}
    elif route.request is not None:
        operation["requestBody"] = {
            "required": True, "content": {"application/json": {"schema": found[id(_asked(route))]}},
        }  # fmt: skip
    return operation


_VERSION = {
    "name": API_HEADER,
    "in": "header",
    "required": False,
    "description": "The version of this API that the asking node speaks.",
    "schema": {"type": "string", "const": str(API_VERSION)},
}


def _parameters(route: Route) -> Iterable[dict[str, Any]]:
    for place, kind in (("path", route.parameters), ("query", route.query)):
        if kind is None:
            continue
        (reference,), components = msgspec.json.schema_components([kind], ref_template=REFERENCE)
        schema = components[reference["$ref"].rsplit("/", 1)[1]]
        for name, one in schema["properties"].items():
            yield {"name": name, "in": place, "required": name in schema.get("required", ()), "schema": one}
    undescribed = set(re.findall(r"{(\w+)}", route.path)) - set(
        route.parameters.__struct_fields__ if route.parameters else ()
    )
    for name in sorted(undescribed):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
