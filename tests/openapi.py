"""What the control socket offers, as an OpenAPI 3.1 document: ``python -m tests.openapi``.

It is made from the models of ``app.calls``, the types of ``app.answers`` and the table of
``ops.problems``, and kept beside the code that serves it. A test holds both equal: whoever
changes a route, a field or a code sees in the file what programs will meet.
"""

import inspect
import json
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from refresher.app.calls import Operation, Taking
from refresher.app.looks import Looks
from refresher.app.operations import Operations
from refresher.app.servers import Servers
from refresher.ops.control import DESCRIPTION
from refresher.ops.health import Probe
from refresher.ops.problems import MEDIA_TYPE, PROBLEMS
from refresher.ops.protocol import TYPES

SCHEMAS = "#/components/schemas/{model}"

ABOUT = """\
The control socket is a Unix socket, and its file mode is its access control. An operation is a
POST of one JSON object; what is not named in its schema is refused. A list comes in pages:
`next` of an answer is `after` of the next question, and null behind the last page.

Until 1.0 operations and fields may be added. Programs pass over fields that they do not know."""


def document() -> dict[str, Any]:
    """The whole document."""
    offered = operations()
    inputs = {name: TypeAdapter(each.model) for name, each in offered.items()}
    outputs = {name: TypeAdapter(_answer(each)) for name, each in offered.items()}
    keys, schemas = TypeAdapter.json_schemas(
        [(f"{name} asks", "validation", adapter) for name, adapter in inputs.items()]
        + [(f"{name} answers", "serialization", adapter) for name, adapter in outputs.items()],
        ref_template=SCHEMAS,
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "refresher", "version": "1", "description": ABOUT},
        "servers": [{"url": "/", "description": "The control socket."}],
        "paths": {
            f"/v1/{name}": {"post": _operation(name, each, keys)}
            for name, each in sorted(offered.items())
        }
        | {f"/{probe}": {"get": _probe(probe)} for probe in Probe}
        | {"/openapi.json": {"get": _itself()}},
        "components": {
            "schemas": schemas["$defs"] | {"Problem": _problem(), "Verdict": VERDICT},
            "responses": {"Problem": PROBLEM_RESPONSE},
        },
        "x-problems": {
            kind: {"status": one.status.value, "title": one.title, "repair": one.repair}
            for kind, one in sorted(PROBLEMS.items())
        },
    }


def operations() -> dict[str, Taking[Any]]:
    """The operations by name, of parts that nothing is asked of."""
    parts: Any = object()
    offered: Mapping[str, Operation] = (
        Operations(parts, parts, parts, parts, {}).by_name()
        | Looks(parts, {}).by_name()
        | Servers({}, parts, parts).by_name()
    )
    return {name: each for name, each in offered.items() if isinstance(each, Taking)}


def text() -> str:
    """The document as it is kept."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def _answer(operation: Taking[Any]) -> Any:
    return get_type_hints(operation.work)["return"]


def _operation(name: str, operation: Taking[Any], keys: Mapping[Any, Any]) -> dict[str, Any]:
    told = inspect.getdoc(operation.work) or ""
    summary, _, rest = told.partition("\n\n")
    kept = [part for part in rest.split("\n\n") if part and not part.startswith("Raises")]
    more = {"description": "\n\n".join(map(_plain, kept))} if kept else {}
    return {
        "operationId": name,
        "summary": _plain(summary),
        **more,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": keys[f"{name} asks", "validation"]}},
        },
        "responses": {
            "200": {
                "description": "It is done, or this is the answer.",
                "content": {
                    "application/json": {"schema": keys[f"{name} answers", "serialization"]}
                },
            },
            "4XX": {"$ref": "#/components/responses/Problem"},
            "5XX": {"$ref": "#/components/responses/Problem"},
        },
    }


def _plain(docstring: str) -> str:
    return " ".join(docstring.replace("``", "`").split())


def _probe(probe: Probe) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": SCHEMAS.format(model="Verdict")}}}
    asked = {
        Probe.LIVE: "Whether the daemon lives.",
        Probe.READY: "Whether it can do all its work.",
    }
    no = {"503": {"description": "No; `reasons` says why.", "content": content}}
    return {
        "operationId": probe.value,
        "summary": asked[probe],
        "responses": {"200": {"description": "Yes.", "content": content}}
        | (no if probe is Probe.READY else {}),
    }


def _itself() -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "operationId": "openapi",
        "summary": "This document.",
        "responses": {"200": {"description": "This document.", "content": content}},
    }


def _problem() -> dict[str, Any]:
    text_ = {"type": "string"}
    return {
        "title": "Problem",
        "description": "What an operation answers besides its answer (RFC 9457).",
        "type": "object",
        "required": ["type", "title", "status", "detail", "repair"],
        "properties": {
            "type": {"enum": [TYPES + kind for kind in sorted(PROBLEMS)]},
            "title": text_,
            "status": {"type": "integer"},
            "detail": text_ | {"description": "What it was this time, without any secret."},
            "repair": text_ | {"description": "What to do: a command, or a sentence."},
            "parameter": text_ | {"description": "The first one missing, unknown or wrong."},
        },
    }


VERDICT = {
    "title": "Verdict",
    "type": "object",
    "required": ["ok", "reasons"],
    "properties": {
        "ok": {"type": "boolean"},
        "reasons": {"type": "array", "items": {"type": "string"}},
    },
}

PROBLEM_RESPONSE = {
    "description": "A problem; `x-problems` lists every type.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": SCHEMAS.format(model="Problem")}}},
}


if __name__ == "__main__":
    DESCRIPTION.write_text(text())
