"""``lmgateway chat``: a conversation, kept as long as it lasts."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer

from ..errors import ConfigError, LMGatewayError, PluginError, UnsupportedError
from .arguments import ConfigPath, Model, Params, System, open_lm
from .ask import stream_answer
from .output import Printout, leave_line, remark, report, say

if TYPE_CHECKING:
    from ..lm import LM

__all__ = ["register"]

HELP = """\
/reset   forget the conversation
/quit    leave; so does Ctrl-D
/help    this
Ctrl-C stops an answer; at the prompt, twice leaves."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(chat)


def chat(
    model: Model = None,
    system: System = None,
    param: Params = None,
    config: ConfigPath = None,
) -> None:
    """Talk with a model; /help lists what else can be typed."""
    with open_lm(model, params=param, system=system, config=config) as lm:
        if sys.stdin.isatty():
            _talk(lm)
        else:
            conversation = Conversation(lm)
            for line in sys.stdin:
                if line.strip():
                    conversation.take(line.rstrip("\r\n"))


def _talk(lm: LM) -> None:
    with suppress(ImportError):
        import readline  # noqa: F401  gives input() a line editor and a history
    print(f"{lm.provider}/{lm.model}: /help for help, Ctrl-D to leave")
    conversation = Conversation(lm)
    warned = False  # of what another Ctrl-C does
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            if warned:
                raise
            leave_line()
            warned = True
            say("Ctrl-C once more, or Ctrl-D, leaves")
            continue
        warned = False
        match line.strip():
            case "":
                pass
            case "/quit" | "/exit":
                return
            case "/help":
                print(HELP)
            case "/reset":
                conversation = Conversation(lm)
                print("forgotten")
            case word if word.startswith("/") and word[1:].isalpha():
                say(f"no command {word}: /help lists them")
            case _:
                _turn(conversation, line)


def _turn(conversation: Conversation, line: str) -> None:
    """One turn at a terminal. Most errors do not end the conversation."""
    try:
        conversation.take(line)
    except KeyboardInterrupt:
        leave_line()
        say("stopped")
    except (ConfigError, UnsupportedError, PluginError):
        raise  # would be the same in every turn
    except LMGatewayError as error:
        report(error)


class Conversation:
    """The turns of a conversation."""

    def __init__(self, lm: LM) -> None:
        self._lm = lm
        self._messages: list[dict[str, Any]] = []

    def take(self, line: str) -> None:
        """Send a line and print the answer.

        An answer that Ctrl-C stopped is kept as far as it came. A line whose answer failed or is
        empty is forgotten.
        """
        printout = Transcript()
        messages = [*self._messages, {"role": "user", "content": line}]
        try:
            turn = self._answer(messages, printout)
        except KeyboardInterrupt:
            if printout.text:
                self._messages = [*messages, {"role": "assistant", "content": printout.text}]
            raise
        if printout.text:
            self._messages = [*messages, turn]

    def _answer(self, messages: list[dict[str, Any]], printout: Printout) -> dict[str, Any]:
        """Print the answer; return it as a turn, with what the service must see again."""
        try:
            stream = self._lm.stream(messages=messages)
        except UnsupportedError:  # of streams, or of what complete will name
            completion = self._lm.complete(messages=messages)
            printout.write(completion["choices"][0]["text"])
            printout.finish()
        else:
            completion = stream_answer(stream, printout)
        remark(completion)
        return dict(completion["choices"][0]["message"])


class Transcript(Printout):
    """A printout that keeps the text of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def write(self, text: str) -> None:
        """Show a piece at once, and keep it."""
        self.text += text
        super().write(text)
