"""Chat templates of Hugging Face: they turn a conversation into the text a model was trained on."""

from .conversation import ControlTokenWarning, Policy, check_control_tokens, merge_system
from .families import FAMILIES, Family, family_for
from .template import Template, find_control_tokens, holds_bos, render, resolve

__all__ = [
    "FAMILIES",
    "ControlTokenWarning",
    "Family",
    "Policy",
    "Template",
    "check_control_tokens",
    "family_for",
    "find_control_tokens",
    "holds_bos",
    "merge_system",
    "render",
    "resolve",
]
