"""Finds a chat template by what the user gave, and renders conversations with it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ...errors import ConfigError, InputError, UnsupportedError, excerpt
from .conversation import find_tokens, flatten, plain, with_reasoning
from .families import FAMILIES, Family, family_named

__all__ = ["MAX_SOURCE", "Template", "find_control_tokens", "holds_bos", "render", "resolve"]

#: Characters of a template's source at most; the longest in use has some 20,000.
MAX_SOURCE = 128 * 1024
#: Bytes of a file at most: a tokenizer_config.json may list every token.
MAX_FILE = 16 * 1024 * 1024

_CONTROL_TOKEN = re.compile(
    r"<\|[^|<>\s'\"]{1,60}\|>|<\uff5c[^\uff5c<>]{1,60}\uff5c>|\[/?[A-Z][A-Z_]{2,40}\]|<</?SYS>>"
    r"|</?s>|<[be]os>|<(?:start|end)_of_(?:turn|text|image|utterance)>"
)
_TOKENS = ("bos_token", "eos_token")
_DATES = ("%d %b %Y", "%d %B %Y", "%Y-%m-%d", "%b %d, %Y", "%B %d, %Y", "%d/%m/%Y")


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template that is ready to render.

    Attributes:
        name: A family's name, a file's path, ``"inline"`` or ``"none"``.
        source: The jinja source; None for ``"none"``: the text goes as it is.
        family: The bundled family it is, if it is one.
        variables: Defaults of what the template reads, such as ``bos_token``.
    """

    name: str
    source: str | None = field(repr=False)
    family: Family | None = field(default=None, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """What the model reads as structure: the family's list, or what the source spells out."""
        if self.family is not None:
            return self.family.control_tokens
        return tuple(dict.fromkeys(_CONTROL_TOKEN.findall(self.source or "")))

    @property
    def bos_token(self) -> str:
        """The token its prompts begin with; "" where there is none or none is known."""
        return self.variables.get("bos_token", "")

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The text of a conversation; see ``render``, the function."""
        if self.source is None:
            return _bare(_checked(plain(list(messages))))
        context = self._context(messages, variables)
        context["add_generation_prompt"] = add_generation_prompt
        try:
            from .sandbox import execute  # jinja2 is loaded when a template is rendered, not before
        except ImportError as error:
            raise UnsupportedError(
                "chat templates need jinja2: pip install 'lmgateway-core[templates]'"
            ) from error
        return execute(self.source, context, self.name)

    def _context(
        self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
    ) -> dict[str, Any]:
        family = self.family
        if family is not None and variables.get("tools") and not family.tools:
            raise UnsupportedError(
                f"the chat template {family.name} takes no tools; "
                f"send them to the chat endpoint (use_chat_api=True)"
            )
        variables = {"tools": None, "documents": None, **self.variables, **variables}
        try:
            context: dict[str, Any] = plain(variables)
            turns = _checked(plain(list(messages)))
        except RecursionError:
            raise InputError("the conversation is nested too deeply, or holds itself") from None
        if family is not None and not family.parts:
            turns = flatten(turns)
        context["messages"] = [with_reasoning(turn) for turn in turns]
        for name in ("tools", "documents"):
            _check_dicts(name, context[name])
        if isinstance(context.get("date_string"), str):
            context["strftime_now"] = _clock(context["date_string"])
        return context


def _checked(messages: list[Any]) -> list[Any]:
    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InputError(f"messages[{at}] is no mapping with a role and a content")
    return messages


def _check_dicts(name: str, values: Any) -> None:
    if values is None:
        return
    if not isinstance(values, (list, tuple)) or not all(isinstance(v, dict) for v in values):
        raise InputError(f"{name} is a list of mappings: JSON, no functions")


def _clock(date: str) -> Callable[[str], str]:
    """``strftime`` on the day that ``date_string`` names, or that very string in any format."""
    for form in _DATES:
        try:
            return datetime.strptime(date, form).strftime
        except ValueError:
            continue
    return lambda format: date


def _bare(messages: list[dict[str, Any]]) -> str:
    """The only user message, as it is; what has a structure needs a template."""
    (text,) = [m.get("content") for m in flatten(messages)] if len(messages) == 1 else (None,)
    if isinstance(text, str) and messages[0].get("role") == "user":
        return text
    raise InputError(
        'template="none" sends one user message as it is; for a conversation give a template, '
        f"such as one of {_names()}, or use the chat endpoint (use_chat_api=True)"
    )


def _names() -> str:
    return ", ".join(family.name for family in FAMILIES)


# -- finding it --------------------------------------------------------------------------------


def resolve(template: str | Template | Family) -> Template:
    """The template that ``template=`` means.

    Text that holds ``{{`` or ``{%`` is jinja; else it is the name of a family or ``"none"``; else
    the path of an existing file: jinja, or a ``tokenizer_config.json``, which says BOS and EOS
    too.

    Raises:
        ConfigError: It is none of these, or the file cannot be read.
    """
    if isinstance(template, Template):
        return template
    if isinstance(template, Family):
        return _bundled(template)
    if not isinstance(template, str):
        raise ConfigError(
            f"template= takes jinja, a path or one of {_names()}; not {type(template).__name__}"
        )
    if "{{" in template or "{%" in template:
        return Template("inline", _limited(template, "the template"))
    family = family_named(template)
    if family is not None:
        return _bundled(family)
    if template.strip().lower() == "none":
        return Template("none", None)
    path = Path(os.path.expanduser(template)) if "\0" not in template else Path()
    try:
        if os.path.isfile(path):  # unlike Path.is_file, False for a name that is too long
            return _from_file(path)
    except OSError as error:
        raise ConfigError(f"the chat template {path} cannot be read: {error.strerror}") from None
    raise ConfigError(_unknown(template))


def _bundled(family: Family) -> Template:
    tokens = {"bos_token": family.bos_token, "eos_token": family.eos_token}
    return Template(family.name, family.template, family, tokens)


def _from_file(path: Path) -> Template:
    text = _read(path)
    if path.suffix != ".json":
        return Template(str(path), _limited(text, str(path)))
    try:
        config = json.loads(text)
        source = config["chat_template"]
        if isinstance(source, list):  # several, by name
            source = {each["name"]: each["template"] for each in source}["default"]
        tokens = {name: _token(config[name]) for name in _TOKENS if config.get(name)}
        return Template(str(path), _limited(source, str(path)), None, tokens)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ConfigError(
            f"{path} holds no chat_template; give a tokenizer_config.json that has one, "
            f"or the jinja file itself"
        ) from None


def _token(value: Any) -> str:
    """A special token of a tokenizer_config.json: a string, or an object that holds one."""
    token: str = value["content"] if isinstance(value, dict) else value
    return token


def _read(path: Path) -> str:
    if path.stat().st_size > MAX_FILE:
        raise ConfigError(f"{path} is too long for a chat template ({MAX_FILE} bytes)")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the chat template {path} is not UTF-8 at byte {error.start}") from None


def _limited(source: str, name: str) -> str:
    if len(source) > MAX_SOURCE:
        raise ConfigError(f"{name} is too long for a chat template ({MAX_SOURCE} characters)")
    return source


def _unknown(template: str) -> str:
    names = [name for family in FAMILIES for name in (family.name, *family.aliases)]
    close = get_close_matches(template.strip().lower(), [*names, "none"], 1)
    nearest = f"; did you mean {close[0]!r}?" if close else ""
    return (
        f"template={excerpt(repr(template), 80)} is no family, no existing file, and no jinja"
        f'{nearest}; the families are {_names()}, and "none" sends the prompt as it is'
    )


# -- using it ----------------------------------------------------------------------------------


def render(
    template: str | Template | Family,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> str:
    """The text of a conversation, exactly as Hugging Face's ``apply_chat_template`` gives it.

    Args:
        template: See ``resolve``.
        messages: The conversation; it is not changed.
        add_generation_prompt: End with the header of the assistant's turn.
        variables: What else the template reads: ``bos_token``, ``eos_token`` (a family has its
            own), ``tools``, ``documents``, ``date_string`` (which also sets the day of
            ``strftime_now``), ...

    Raises:
        InputError: The template refuses the conversation, fails on it, or renders more than a
            template may; the message says what to do.
        UnsupportedError: The template takes no tools or no images; or jinja2 is not installed.
        ConfigError: There is no such template, or it is broken: the message has the line.
    """
    return resolve(template).render(
        messages, add_generation_prompt=add_generation_prompt, **variables
    )


def find_control_tokens(
    template: str | Template | Family, messages: Sequence[Mapping[str, Any]] | str
) -> list[str]:
    """The template's control tokens that the user's text holds.

    A model obeys them wherever they stand: ``<|im_end|>`` in a user's text ends their turn.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return find_tokens(resolve(template).control_tokens, messages)


def holds_bos(text: str, bos_token: str | None) -> bool:
    """Whether a rendered text begins with BOS already.

    Then the server must not add it: ``add_special_tokens=false``.
    """
    return bool(bos_token) and text.startswith(str(bos_token))
