"""``lmgateway chat``: the conversation goes on, whatever becomes of one answer."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.llama_server import LlamaServer

from .conftest import Open, Run

CTRL_C, CTRL_D = "\x03", "\x04"


def test_history_is_kept_until_reset(terminal: Open) -> None:
    shell = terminal("chat", "-m", "plain")
    shell.read_until("> $")
    shell.read_until("1 messages\r\n> $", start=shell.type("one\n"))
    shell.read_until("3 messages\r\n> $", start=shell.type("two\n"))
    shell.read_until("forgotten\r\n> $", start=shell.type("/reset\n"))
    shell.read_until("1 messages\r\n> $", start=shell.type("three\n"))
    shell.type("/quit\n")
    assert shell.wait() == 0


def test_ctrl_c_stops_the_answer_and_keeps_the_conversation(terminal: Open) -> None:
    shell = terminal("chat", "-m", "endless")
    shell.read_until("> $")
    shell.read_until(r"1 messages\.\.", start=shell.type("one\n"))
    shell.read_until("stopped\r\n> $", start=shell.type(CTRL_C))
    # The answer that was stopped is part of it: one, its answer, two.
    shell.read_until(r"3 messages\.", start=shell.type("two\n"))
    shell.read_until("stopped\r\n> $", start=shell.type(CTRL_C))
    shell.type(CTRL_D)
    assert shell.wait() == 0


def test_second_ctrl_c_at_the_prompt_leaves(terminal: Open) -> None:
    shell = terminal("chat", "-m", "echo")
    shell.read_until("> $")
    shell.press_until("\x0c", r"\x1b\[[HJ2].*> $")  # Ctrl-L: readline is there
    shell.press_until(CTRL_C, "once more[^>]*> $")
    shell.press_until("\x0c", r"\x1b\[[HJ2].*> $")
    shell.press_until(CTRL_C, "\n$")
    assert shell.wait() == 130
    assert "Traceback" not in shell.shown


@pytest.mark.parametrize("line", ["/help", "/frob", ""], ids=["help", "unknown", "empty"])
def test_what_is_no_turn_is_not_sent(terminal: Open, line: str) -> None:
    shell = terminal("chat", "-m", "plain")
    shell.read_until("> $")
    shell.read_until(r"\n> $", start=shell.type(line + "\n"))
    shell.read_until("1 messages", start=shell.type("one\n"))


def test_path_at_the_start_of_a_turn_is_no_command(terminal: Open) -> None:
    shell = terminal("chat", "-m", "echo")
    shell.read_until("> $")
    shell.read_until("\n/etc/hosts is what\r\n> $", start=shell.type("/etc/hosts is what\n"))


def test_turn_that_fails_is_taken_back(terminal: Open) -> None:
    shell = terminal("chat", "-m", "plain")
    shell.read_until("> $")
    shell.read_until("1 messages\r\n> $", start=shell.type("one\n"))
    shell.read_until("InvalidRequestError: [^>]*\n> $", start=shell.type("fail\n"))
    shell.read_until("3 messages\r\n> $", start=shell.type("two\n"))
    shell.type(CTRL_D)
    assert shell.wait() == 0


def test_turn_that_fails_midway_is_taken_back(terminal: Open) -> None:
    shell = terminal("chat", "-m", "literal")
    shell.read_until("> $")
    shell.read_until(
        r'\["fail"\]\r\n[^>]*InvalidRequestError: [^>]*\n> $', start=shell.type("fail\n")
    )
    shell.read_until(r'\["two"\]\r\n> $', start=shell.type("two\n"))


def test_model_is_told_its_own_words_and_no_newline_of_ours(run: Run) -> None:
    done = run("chat", "-m", "literal", stdin="one\ntwo\n")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        ["one"],
        ["one", '["one"]', "two"],
    ]


def test_closed_stdin_is_an_empty_one(environment: dict[str, str], tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m lmgateway chat -m echo <&-"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env=environment, cwd=tmp_path,
        timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_turn_that_cannot_ever_work_ends_the_conversation(terminal: Open) -> None:
    shell = terminal("chat", "-m", "openai/m")
    shell.read_until("> $")
    shell.type("one\n")
    assert shell.wait() == 2
    assert "MissingCredentialError" in shell.shown


def test_lines_of_a_pipe_are_turns(run: Run) -> None:
    done = run("chat", "-m", "plain", stdin="one\n\ntwo\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 messages\n3 messages\n", "")


def test_failing_turn_of_a_pipe_ends_it(run: Run) -> None:
    done = run("chat", "-m", "openai/m", stdin="one\ntwo\n")
    assert done.returncode == 2
    assert done.stderr.startswith("lmgateway: MissingCredentialError: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.real
def test_real_model_remembers(run: Run, llama_server: LlamaServer) -> None:
    done = run(
        "chat", "-m", f"openai/{llama_server.model}", "-p", "temperature=0", "-p", "max_tokens=30",
        stdin="What is the capital of Japan?\nRepeat your last answer word for word.\n",
        OPENAI_API_BASE=llama_server.base_url, OPENAI_API_KEY=llama_server.api_key,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.count("Tokyo") >= 2
