"""Doubles and checks for the tests of programs and of plugins."""

from __future__ import annotations

from .scripted import ScriptedLM

__all__ = ["ScriptedLM"]
