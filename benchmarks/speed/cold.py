"""What a process costs that begins with nothing: its imports, and its first answer."""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

__all__ = ["FIRST_ANSWER", "IMPORTS", "cpu_of", "medians"]

IMPORTS = {
    "nothing": ("core", "pass"),
    "lmgateway": ("core", "import lmgateway"),
    "requests": ("core", "import requests"),
    "openai": ("openai", "import openai"),
    "litellm": ("litellm", "import litellm"),
    "dspy": ("dspy", "import dspy"),
    "langchain": ("langchain-openai", "import langchain_openai"),
    "any-llm": ("any-llm-sdk", "import any_llm"),
}
"""Environment and code of each."""

_MESSAGES = "[dict(role='user', content='Hi')]"

FIRST_ANSWER = {
    "requests": (
        "core",
        "import requests; print(requests.post('{base}/chat/completions', "
        "headers=dict(Authorization='Bearer k'), json=dict(model='m', messages="
        f"{_MESSAGES})).json()['choices'][0]['message']['content'])",
    ),
    "lmgateway": (
        "core",
        "from lmgateway import get_lm; "
        "print(get_lm('openai', model='m', api_base='{base}', api_key='k')('Hi')[0])",
    ),
    "openai": (
        "openai",
        "import openai; print(openai.OpenAI(base_url='{base}', api_key='k').chat.completions."
        f"create(model='m', messages={_MESSAGES}).choices[0].message.content)",
    ),
    "litellm": (
        "litellm",
        "import litellm; print(litellm.completion(model='openai/m', api_base='{base}', "
        f"api_key='k', messages={_MESSAGES}).choices[0].message.content)",
    ),
    "dspy": (
        "dspy",
        "import dspy; print(dspy.LM('openai/m', api_base='{base}', api_key='k', "
        "cache=False)('Hi')[0])",
    ),
    "langchain": (
        "langchain-openai",
        "from langchain_openai import ChatOpenAI; print(ChatOpenAI(model='m', "
        "base_url='{base}', api_key='k').invoke('Hi').content)",
    ),
    "any-llm": (
        "any-llm-sdk",
        "from any_llm import completion; print(completion(provider='openai', model='m', "
        f"api_base='{{base}}', api_key='k', messages={_MESSAGES}).choices[0].message.content)",
    ),
}
"""Environment and code of each; ``{base}`` is the service."""


def cpu_of(python: str, code: str) -> float:
    """CPU seconds of a whole process."""
    process = subprocess.Popen([python, "-c", code], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, code)
    return usage.ru_utime + usage.ru_stime


def medians(commands: dict[str, tuple[str, str]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each command, run in turns; the first run, unmeasured, compiles.

    A command that fails is left out.
    """
    left = dict(commands)
    spent: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, (python, code) in list(left.items()):
            try:
                seconds = cpu_of(python, code)
            except subprocess.CalledProcessError as error:
                print(f"{name}: {error}", file=sys.stderr)
                del left[name]
                continue
            if number:
                spent.setdefault(name, []).append(seconds)
    return {name: median(spent[name]) for name in left}
