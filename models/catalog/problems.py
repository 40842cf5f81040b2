"""Turns what pydantic found wrong into problems that name the field as written, what is wrong and the cure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from models.catalog.errors import Problem, WrongValue
from models.catalog.yaml_file import Document, Loc

_CURES: dict[str, str] = {
    "string_type": "put it in quotes",
    "invalid_key": "put it in quotes",
    "int_type": "write a whole number",
    "int_parsing": "write a whole number",
    "int_from_float": "write a whole number",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "tuple_type": "write a list",
    "list_type": "write a list",
    "dict_type": "write keys and values below it",
    "model_type": "write keys and values below it",
    "invalid-json-value": "put it in quotes",
}


def problems_of(error: ValidationError, model: type[BaseModel], document: Document, prefix: Loc = ()) -> list[Problem]:
    """One problem for each wrong value. ``prefix``: where in the document the validated part begins."""
    return [_problem(details, model, document, prefix) for details in error.errors(include_url=False)]


def problem_at(document: Document, loc: Loc, message: str, cure: str) -> Problem:
    return Problem(document.name, field_path(loc), message, cure, document.line(loc))


def field_path(loc: Loc) -> str:
    """``models[2].declared.weights``."""
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def did_you_mean(given: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(given.replace("-", "_").lower(), names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(names)}"


def _problem(details: ErrorDetails, model: type[BaseModel], document: Document, prefix: Loc) -> Problem:
    loc = (*prefix, *details["loc"])
    kind, given = details["type"], details["input"]
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, WrongValue):
        problem = problem_at(document, loc, cause.message, cause.cure)
        field = field_path((*loc, cause.at)) if not cause.at.startswith("[") else field_path(loc) + cause.at
        return Problem(problem.file, field if cause.at else problem.field, cause.message, cause.cure, problem.line)
    if kind == "missing":
        return problem_at(document, loc, "is missing", "add it")
    if kind == "extra_forbidden":
        known = _keys_at(model, details["loc"][:-1])
        return problem_at(document, loc, "is not a known key", did_you_mean(str(loc[-1]), known))
    if given is None:
        return problem_at(document, loc, "is empty", "give it a value, or remove the key")
    if kind == "literal_error":
        allowed = [part.strip(" '") for part in details["ctx"]["expected"].replace(" or ", ",").split(",")]
        return problem_at(document, loc, f"{_shown(given)} is not possible", did_you_mean(str(given), allowed))
    said = details["msg"] if kind != "model_type" else "keys and values are expected"
    message = f"{_shown(given)} is not possible: {said[:1].lower()}{said[1:]}"
    return problem_at(document, loc, message, _CURES.get(kind, "choose another value"))


def _keys_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """The keys known at ``loc`` below ``model``; list indices and names that the writer chose are stepped over."""
    here: type[BaseModel] | None = model
    chosen = False
    for part in loc:
        if chosen:
            chosen = False
        elif isinstance(part, str) and here is not None:
            field = here.model_fields.get(part)
            chosen = field is not None and get_origin(field.annotation) is dict
            here = _model_in(field.annotation) if field is not None else None
    return list(here.model_fields) if here is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in get_args(annotation))
    return next((model for model in found if model is not None), None)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
