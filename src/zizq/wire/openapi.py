"""The OpenAPI document of the API, made from the table of operations and the types of what travels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import msgspec

from zizq.wire import codec
from zizq.wire.codec import ORDINARY, Format
from zizq.wire.framing import STREAMS
from zizq.wire.messages import U32, ErrorBody, Name
from zizq.wire.operations import OPERATIONS, PROBES, TAKE, Operation, Parameter

Document = dict[str, Any]

_SEGMENTS: dict[str, Any] = {"attempt": U32, "group": Name, "queue": Name}
"""The types of segments of paths that are not any text."""
_NULL = {"type": "null"}
_SECURITY: dict[str, Document] = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token that has the scope."},
    "certificate": {"type": "mutualTLS", "description": "A client certificate whose name has the scope."},
}
"""What shows who calls, where the server asks for that."""


@lru_cache(maxsize=4)
def encoded(version: str, form: Format) -> bytes:
    """The document as it is sent."""
    return codec.encode(document(version), form)


def document(version: str) -> Document:
    """The document of a server of this version: OpenAPI 3.1, whose schemas are JSON Schema of 2020-12."""
    schemas = _Schemas()
    paths: dict[str, Document] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "zizq", "version": version, "license": {"name": "MIT", "identifier": "MIT"}},
        "paths": paths,
        "components": {"schemas": schemas.components, "securitySchemes": _SECURITY},
    }


class _Schemas:
    """Schemas of types, and those of the structs in them by name."""

    def __init__(self) -> None:
        self.components: dict[str, Document] = {}
        # By identity: what a type is annotated with cannot be hashed, and all types outlive this.
        self._made: dict[int, Document] = {}

    def of_request(self, kind: Any) -> Document:
        """The schema of what a client sends: of optional members, null is as good as absent."""
        return self._made.get(id(kind)) or self._make(kind, _described)

    def of_answer(self, kind: Any) -> Document:
        """The schema of what the server sends: optional members are left out, never null (protocol.md#1.2)."""
        return self._made.get(id(kind)) or self._make(kind, lambda part: _never_null(_described(part)))

    def _make(self, kind: Any, finish: Callable[[Document], Document]) -> Document:
        [schema], parts = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
        self.components.update((name, finish(part)) for name, part in parts.items())
        self._made[id(kind)] = schema
        return schema


def _described(part: Document) -> Document:
    """A part with the first line of its docstring alone: the rest is about Python."""
    return part | {"description": part["description"].partition("\n")[0]} if "description" in part else part


def _never_null(part: Document) -> Document:
    if "properties" not in part:
        return part
    return part | {"properties": {name: _present(member) for name, member in part["properties"].items()}}


def _present(member: Document) -> Document:
    if member.get("default", ...) is not None:
        return member
    choices: list[Document] = [choice for choice in member["anyOf"] if choice != _NULL]
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _operation(operation: Operation, schemas: _Schemas) -> Document:
    shown: Document = {"operationId": operation.name, "summary": operation.summary}
    if operation.scope is not None:
        # The empty one is last: nothing is asked for where the server runs without --auth.
        shown["security"] = [*({scheme: [operation.scope.value]} for scheme in _SECURITY), {}]
    segments = _segments(operation)
    if segments or operation.query:
        shown["parameters"] = [
            *(_segment(name, schemas) for name in segments),
            *(_parameter(parameter, schemas) for parameter in operation.query),
        ]
    if operation.body is not None:
        shown["requestBody"] = {"required": True, "content": _content(ORDINARY, schemas.of_request(operation.body))}
    answers = {status: _answer(status, operation, schemas) for status in operation.answers}
    refusals = {status: _refusal(status, operation, schemas) for status in _refusals(operation)}
    shown["responses"] = {str(status): response for status, response in sorted((refusals | answers).items())}
    return shown


def _segments(operation: Operation) -> list[str]:
    return re.findall(r"{(\w+)}", operation.path)


def _segment(name: str, schemas: _Schemas) -> Document:
    return {"name": name, "in": "path", "required": True, "schema": schemas.of_request(_SEGMENTS.get(name, str))}


def _parameter(parameter: Parameter, schemas: _Schemas) -> Document:
    shown = {"name": parameter.name, "in": "query", "schema": schemas.of_request(parameter.kind)}
    return shown | {"style": "form", "explode": False} if parameter.is_list else shown


def _answer(status: int, operation: Operation, schemas: _Schemas) -> Document:
    kind = operation.answers[status]
    shown: Document = {"description": HTTPStatus(status).phrase}
    if kind is not None:
        shown["content"] = _content(operation.formats, schemas.of_answer(kind))
    elif status != HTTPStatus.NO_CONTENT:
        # Frames without an end: 3.1 has no schema for them.
        shown["content"] = {form: {} for form in operation.formats}
    return shown


def _refusal(status: int, operation: Operation, schemas: _Schemas) -> Document:
    # Whose format is not spoken, or reads a stream, is refused in JSON (protocol.md#1.1).
    formats = ORDINARY if status != HTTPStatus.NOT_ACCEPTABLE and operation.formats != STREAMS else [Format.JSON]
    return {"description": HTTPStatus(status).phrase, "content": _content(formats, schemas.of_answer(ErrorBody))}


def _refusals(operation: Operation) -> Iterable[int]:
    """The statuses with which a call may be refused (protocol.md#1.4)."""
    yield from operation.refusals
    yield from (406, 500)
    if operation.scope is not None:
        yield from (401, 403)
    # A group whose name is none is not there, where it is not to be made.
    if operation.query or operation.body or {"attempt", "queue"} & set(_segments(operation)):
        yield 400
    if operation.body:
        yield from (408, 413, 415)
    # Any but this may be one too many, and a stream is counted for itself.
    if operation not in PROBES:
        yield 503
        if operation is not TAKE:
            yield 429


def _content(formats: Sequence[str], schema: Document) -> Document:
    return {form: {"schema": schema} for form in formats}
