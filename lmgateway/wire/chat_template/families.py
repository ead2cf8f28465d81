"""The bundled families of chat templates, and which model ids they belong to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

__all__ = ["FAMILIES", "Family", "family_for", "family_named"]


@dataclass(frozen=True, slots=True)
class Family:
    """Models that share a chat template.

    Attributes:
        name: What ``template=`` takes.
        models: Patterns of model ids, for people to read: ``*`` is any text, matched without
            case against the id without its organisation, or against all of it.
        aliases: Other names ``template=`` takes.
        file: The template's file name, where it is not ``NAME.jinja``.
        bos_token: Default of the variable; "" for none.
        eos_token: Default of the variable.
        control_tokens: What the model reads as structure rather than text.
        parts: Whether the template itself takes a content made of parts.
        tools: Whether the template takes tools.
    """

    name: str
    models: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    file: str = ""
    bos_token: str = ""
    eos_token: str = ""
    control_tokens: tuple[str, ...] = field(default=(), repr=False)
    parts: bool = False
    tools: bool = False

    @property
    def template(self) -> str:
        """The template, as jinja source."""
        return _read(self.file or f"{self.name}.jinja")


@lru_cache(maxsize=32)
def _read(file: str) -> str:
    return (files("lmgateway.wire") / "templates" / file).read_text(encoding="utf-8")


_LLAMA_3_TOKENS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "<|eom_id|>", "<|python_tag|>",
)  # fmt: skip
_GEMMA_TOKENS = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
_CHATML_TOKENS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")

#: A model takes the first family that has a pattern for it. Base models are in none: their ids
#: lack the word (chat, instruct, it) that their tuned sisters carry.
FAMILIES: tuple[Family, ...] = (
    Family(
        "llama-2",
        models=("llama-2-*chat*", "codellama-*instruct*"),
        aliases=("llama2",),
        bos_token="<s>",
        eos_token="</s>",
        control_tokens=("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>"),
    ),
    Family(
        "llama-3.1",
        models=(
            "llama-3.1-*instruct*", "llama-3.2-*instruct*", "llama-3.3-*instruct*",
            "meta-llama-3.1-*instruct*", "meta-llama-3.2-*instruct*", "meta-llama-3.3-*instruct*",
        ),
        aliases=("llama3.1", "llama3_1", "llama-3.2", "llama-3.3"),
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        control_tokens=_LLAMA_3_TOKENS,
        tools=True,
    ),
    Family(
        "llama-3",
        models=(
            "llama-3-*instruct*", "llama-3-*chat*",
            "meta-llama-3-*instruct*", "meta-llama-3-*chat*",
        ),
        aliases=("llama3",),
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        control_tokens=_LLAMA_3_TOKENS,
    ),
    Family(
        "mistral",
        models=("mistral-7b-instruct*", "mixtral-8x7b-instruct*", "mixtral-8x22b-instruct*"),
        bos_token="<s>",
        eos_token="</s>",
        control_tokens=("[INST]", "[/INST]", "<s>", "</s>"),
    ),
    Family(
        "gemma-3",
        models=("gemma-3-*-it*", "medgemma-*-it*"),
        aliases=("gemma3",),
        bos_token="<bos>",
        eos_token="<eos>",
        control_tokens=(*_GEMMA_TOKENS, "<start_of_image>"),
        parts=True,
    ),
    Family(
        "gemma",
        models=(
            "gemma-2b-it*", "gemma-7b-it*", "gemma-1.1-*-it*", "gemma-2-*-it*", "codegemma-*-it*",
        ),
        aliases=("gemma-2", "gemma2"),
        bos_token="<bos>",
        eos_token="<eos>",
        control_tokens=_GEMMA_TOKENS,
    ),
    Family(
        "qwen-2.5",
        models=("qwen2.5-*instruct*", "qwen-2.5-*instruct*"),
        aliases=("qwen2.5", "qwen2_5"),
        eos_token="<|im_end|>",
        control_tokens=_CHATML_TOKENS,
        tools=True,
    ),
    Family(
        "chatml",
        models=(
            "qwen1.5-*chat*", "smollm2-*instruct*", "openhermes-2*", "nous-hermes-2-*",
            "hermes-2-*", "dolphin-2*", "*chatml*",
        ),
        aliases=("chatml_vllm",),
        eos_token="<|im_end|>",
        control_tokens=_CHATML_TOKENS,
    ),
)  # fmt: skip


def family_named(name: str) -> Family | None:
    """The family of that name or alias, without regard to case."""
    wanted = name.strip().lower()
    return next((f for f in FAMILIES if wanted == f.name or wanted in f.aliases), None)


def family_for(model: str) -> Family | None:
    """The family of a model id, or None when the id does not say.

    Of ``base:adapter`` (LoRA) the base decides, and the adapter only if the base says nothing;
    an organisation (``meta-llama/``) or a path before the last slash is passed over.
    """
    base, _, adapter = model.partition(":")
    return _match(base) or (_match(adapter) if adapter else None)


def _match(model: str) -> Family | None:
    name = model.rstrip("/").rpartition("/")[2]
    return next((family for family in FAMILIES if _pattern(family).fullmatch(name)), None)


@lru_cache(maxsize=32)
def _pattern(family: Family) -> re.Pattern[str]:
    parts = (re.escape(model).replace(r"\*", ".*") for model in family.models)
    return re.compile("|".join(parts), re.IGNORECASE | re.DOTALL)
