"""The schema that an answer must fit: what a caller may give as one, and how answers are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import GenericAlias, UnionType
from typing import Annotated, Any, ForwardRef, Literal, get_args, get_origin

from .._base.values import TypeSchema
from ..errors import ContentFilteredError, InputError, ResponseFormatError, excerpt
from ..types import Choice, Completion
from .validation import check_json

__all__ = ["read_schema"]

#: Where else than in its arguments a typing form keeps types: NewType, TypeVar.
_INNER = ("__supertype__", "__bound__", "__constraints__", "__default__")
#: A text in which nothing is called: all that a recursive alias needs.
_NAMES = re.compile(r"[\w\s\[\],.|]+")
_TYPING = ("typing", "typing_extensions")


def read_schema(schema: Any) -> tuple[Mapping[str, Any], Callable[[Completion], None]]:
    """The JSON schema of what was given, and what puts ``parsed`` into the choices of an answer.

    A JSON schema is data: no ``$ref`` in it is followed. A type is code; what is neither (a text
    above all, which pydantic would evaluate) is refused, also inside of a typing form.

    Args:
        schema: A class, a typing form such as ``list[int]``, or a JSON schema as a Mapping.

    Raises InputError for anything else.
    """
    from pydantic import TypeAdapter, ValidationError

    adapter: TypeAdapter[Any]
    if isinstance(schema, Mapping):
        check_json(schema, "schema")
        wanted: Mapping[str, Any] = schema
        adapter = TypeAdapter(Any)
    else:
        _check_type(schema)
        try:
            adapter = TypeAdapter(schema)
            wanted = TypeSchema(adapter.json_schema())
        except Exception as error:
            raise _wrong(f", and of this one none can be made: {_first_line(error)}") from None

    def parse(completion: Completion) -> None:
        choices = completion["choices"]
        stands = not all(map(_has_failed, choices))
        for choice in choices:
            failed = stands and _has_failed(choice)
            if choice.get("tool_calls") or choice.get("refusal") or failed:
                choice["parsed"] = None
                continue
            problem = None
            try:
                choice["parsed"] = adapter.validate_json(choice["text"])
            except ValidationError as error:
                problem = _misfit(choice, error.errors(include_url=False, include_input=False)[0])
            if problem is not None:
                raise problem
        _check_refusals(choices)

    return wanted, parse


def _has_failed(choice: Choice) -> bool:
    """Whether it stands beside a good choice and is none itself."""
    return choice.get("finish_reason") in ("error", "content_filter")


def _misfit(choice: Choice, first: Mapping[str, Any]) -> ResponseFormatError:
    place = ".".join(str(each) for each in first["loc"]) or "the answer"
    what = f"{place}: {first['msg']}"
    if choice.get("finish_reason") == "length":
        problem = ResponseFormatError(
            "the answer was cut at its limit of tokens (finish_reason length) before it fitted "
            f"the schema: {what}; raise max_tokens or max_completion_tokens"
        )
    else:
        problem = ResponseFormatError(f"the answer does not fit the schema: {what}")
    problem.text = choice["text"]
    problem.partial = choice["text"] or None
    return problem


def _check_refusals(choices: Sequence[Choice]) -> None:
    """Raise where the model refused, and no choice says anything else."""
    refusals = [choice["refusal"] for choice in choices if choice.get("refusal")]
    said = (
        choice.get("tool_calls") or not (choice.get("refusal") or _has_failed(choice))
        for choice in choices
    )
    if not refusals or any(said):
        return
    problem = ContentFilteredError(
        f"the model refused to answer: {excerpt(refusals[0])}", status=200, code="refusal"
    )
    problem.retryable = False
    raise problem


def _check_type(schema: object) -> None:
    """Refuse what is no type through and through: pydantic evaluates texts and calls functions."""
    odd = _odd(schema, {})
    if odd is None:
        return
    if odd is schema:
        raise _wrong(f", not {_named(odd)}")
    raise _wrong(f", and this type holds {_named(odd)}")


def _odd(form: object, seen: dict[Any, object], *, named: bool = False) -> object | None:
    """What is no type in a type, or the whole of it; None if there is nothing of the kind.

    Args:
        form: The type.
        seen: What was looked at before, by id; kept, so that nothing else gets its id.
        named: Whether it is the value of an alias, which names itself in a text where it recurs.
    """
    if isinstance(form, type) or form is None or form is ...:
        return None  # what stands in a class was written as code
    text = form.__forward_arg__ if isinstance(form, ForwardRef) else form
    if isinstance(text, str):
        return None if named and _NAMES.fullmatch(text) else form
    if not _is_form(form):
        return form
    if (id(form), named) in seen:
        return None
    seen[id(form), named] = form
    origin, parts = get_origin(form), list(get_args(form))
    if origin is Literal:
        return None  # its texts are values
    if origin is Annotated:
        del parts[1:]  # what follows says something about the type, and is none
    try:
        value = getattr(form, "__value__", None)
        parts += [origin, *(getattr(form, name, None) for name in _INNER)]
        if type(parts[-1]).__name__ == "NoDefaultType":  # Python 3.13's for a TypeVar without one
            del parts[-1]
    except Exception:  # an alias whose value is evaluated only now, and names what is not there
        return form
    if (odd := _odd(value, seen, named=True)) is not None:
        return odd
    for part in parts:
        for each in part if isinstance(part, (list, tuple)) else (part,):
            if (odd := _odd(each, seen, named=named)) is not None:
                return odd
    return None


def _is_form(form: object) -> bool:
    return isinstance(form, (GenericAlias, UnionType)) or type(form).__module__ in _TYPING


def _named(odd: object) -> str:
    if isinstance(odd, (str, bytes, bytearray, ForwardRef)):
        return f"a text ({type(odd).__name__}), which is never evaluated"
    return f"a {type(odd).__name__}"


def _first_line(error: Exception) -> str:
    return excerpt(str(error).partition("\n")[0]) or type(error).__name__


def _wrong(what: str) -> InputError:
    return InputError(
        "schema must be a type (a pydantic model, list[int], ...) or a JSON schema as a dict" + what
    )
