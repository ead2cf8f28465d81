"""``lmgateway ask``: what it is given, what it prints, where it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.llama_server import LlamaServer

from .conftest import Open, Run
from .service import STREAM, UNAUTHORIZED, serve

ESC = "\x1b"


@pytest.mark.parametrize(
    "arguments, stdin, answer",
    [
        pytest.param(["one  two"], None, "one  two\n", id="argument"),
        pytest.param([], "from a pipe\n", "from a pipe\n", id="pipe"),
        pytest.param(["-"], "from a pipe\n", "from a pipe\n", id="dash"),
        pytest.param(["Sum up:"], "a\nb\n", "Sum up:\n\na\nb\n", id="both"),
        pytest.param(["alone"], "", "alone\n", id="empty pipe"),
        pytest.param([], "\ufeffmarked\r\n", "marked\n", id="byte order mark"),
        pytest.param(["grüße 😀"], None, "grüße 😀\n", id="not ASCII"),
        pytest.param(["--no-stream", "whole"], None, "whole\n", id="no stream"),
        pytest.param(["-p", "n=2", "x"], None, "--- 1 of 2 ---\nx\n--- 2 of 2 ---\nx\n", id="n"),
        pytest.param(["w " * 200], None, "w " * 200 + "\n", id="long line is not wrapped"),
    ],
)
def test_answer_in_a_pipe(run: Run, arguments: list[str], stdin: str | None, answer: str) -> None:
    done = run("ask", "-m", "echo", *arguments, stdin=stdin)
    assert (done.returncode, done.stdout, done.stderr) == (0, answer, "")


@pytest.mark.parametrize(
    "arguments, stdin, complaint",
    [
        pytest.param([], None, "InputError: give a prompt", id="no prompt"),
        pytest.param([], b" \n", "InputError: give a prompt", id="blank prompt"),
        pytest.param([], b"\xff\xfe", "InputError: stdin is not UTF-8 text (at byte 0)", id="utf"),
        pytest.param(["-m", "eco", "x"], None, "UnknownProviderError: no provider", id="provider"),
        pytest.param(["-m", "openai/m", "x"], None, "MissingCredentialError: ", id="no key"),
        pytest.param(["-p", "hot", "x"], None, "InputError: --param takes NAME=VALUE", id="param"),
        pytest.param(["-p", "name=echo", "x"], None, "InputError: give -m", id="taken param"),
        pytest.param(["-p", "n=0", "x"], None, "InputError: ", id="n=0"),
        pytest.param(["-p", "tempo=1", "x"], None, "UnknownParameterError: ", id="unknown param"),
        pytest.param(["--schema", "none.json", "x"], None, "InputError: the schema", id="schema"),
        pytest.param(["--frob", "x"], None, "No such option", id="option"),
        pytest.param(["x", "y"], None, "Got unexpected extra argument", id="two prompts"),
    ],
)
def test_misuse_is_one_line_and_status_2(
    run: Run, arguments: list[str], stdin: bytes | None, complaint: str
) -> None:
    done = run("ask", *([] if "-m" in arguments else ["-m", "echo"]), *arguments, stdin=stdin)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"lmgateway: {complaint}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "text, value",
    [
        pytest.param("2", 2, id="number"),
        pytest.param('["a", "b"]', ["a", "b"], id="list"),
        pytest.param("END", "END", id="text"),
        pytest.param("a=b", "a=b", id="equals sign"),
        pytest.param('"2"', "2", id="quoted"),
    ],
)
def test_param_is_json_or_text(run: Run, text: str, value: object) -> None:
    done = run("ask", "-m", "openai/m", "x", "-p", f"stop={text}", "--dry-run")
    if isinstance(value, int):  # no stop: refused, which shows that it was no text
        assert "stop" in done.stderr
    else:
        assert json.loads(done.stdout)["json"]["stop"] == value


def test_dry_run_shows_the_request_and_no_key(run: Run) -> None:
    done = run("ask", "-m", "openai/m", "--system", "Be brief.", "hi", "--dry-run",
               OPENAI_API_KEY="sk-canary")  # fmt: skip
    shown = json.loads(done.stdout)
    assert shown["url"] == "https://api.openai.com/v1/chat/completions"
    assert [turn["content"] for turn in shown["json"]["messages"]] == ["Be brief.", "hi"]
    assert shown["json"]["stream"] is True
    assert "canary" not in done.stdout + done.stderr


def test_json_is_the_whole_completion(run: Run) -> None:
    completion = json.loads(run("ask", "-m", "echo", "grüße", "--json").stdout)
    assert completion["prompt"] == "grüße"
    assert completion["choices"][0]["finish_reason"] == "stop"
    assert completion["provider"] == "echo"


def test_json_survives_a_pipe_that_takes_ascii_only(run: Run) -> None:
    done = run("ask", "-m", "echo", "grüße", "--json", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["prompt"] == "grüße"


def test_text_survives_a_pipe_that_takes_ascii_only(run: Run) -> None:
    done = run("ask", "-m", "echo", "grüße", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "gr??e\n")


def test_provider_that_cannot_stream_answers_whole(run: Run) -> None:
    assert run("ask", "-m", "plain", "x").stdout == "1 messages\n"


def test_cut_answer_says_so_beside_it(run: Run) -> None:
    done = run("ask", "-m", "echo", "one two", "-p", "max_tokens=1")
    assert (done.returncode, done.stdout) == (0, "one\n")
    assert "cut short" in done.stderr


def test_fault_of_a_plugin_is_one_line(run: Run) -> None:
    done = run("ask", "-m", "faulty", "x")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "ZeroDivisionError" in done.stderr


def test_message_of_several_lines_is_told_in_one(run: Run) -> None:
    done = run("ask", "-m", "plain", "fail")
    assert done.returncode == 1
    assert done.stderr.startswith("lmgateway: InvalidRequestError: this will not do [")
    assert done.stderr.count("\n") == 1


def test_debug_shows_where_it_happened(run: Run) -> None:
    done = run("--debug", "ask", "-m", "faulty", "x")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "odd_plugins.py" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lmgateway", "ask", "-m", "echo", "x"],
            stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True,
            env=environment, cwd=tmp_path, timeout=30,
        )  # fmt: skip
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments, status",
    [(["ask", "-m", "echo", "x"], 0), (["ask", "-m", "no-such", "x"], 2), (["no-such"], 2)],
    ids=["an answer", "an unknown provider", "an unknown command"],
)
def test_a_status_is_right_where_stderr_cannot_be_written(
    environment: dict[str, str], tmp_path: Path, arguments: list[str], status: int
) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lmgateway", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=full, check=False,
            env=environment, cwd=tmp_path, timeout=30,
        )  # fmt: skip
    assert done.returncode == status


def test_reader_that_leaves_is_no_error(environment: dict[str, str], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "lmgateway", "ask", "-m", "endless", "x"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stderr:
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr.read() == b""


# -- which model ---------------------------------------------------------------------------------

FILE = 'default = "fast"\n[models.fast]\nprovider = "echo"\nparams = { max_tokens = 1 }\n'


def test_default_of_the_configuration_answers(run: Run, tmp_path: Path) -> None:
    (tmp_path / "lmgateway.toml").write_text(FILE)
    assert run("ask", "one two").stdout == "one\n"


def test_variable_goes_before_the_default(run: Run, tmp_path: Path) -> None:
    (tmp_path / "lmgateway.toml").write_text(FILE)
    assert run("ask", "one two", LMGATEWAY_MODEL="echo").stdout == "one two\n"


def test_another_configuration_can_be_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(FILE)
    assert run("ask", "one two", "--config", "other.toml").stdout == "one\n"
    assert run("chat", "--config", "other.toml", stdin="one two\n").stdout == "one\n"


def test_without_a_default_it_is_the_embedded_model(run: Run) -> None:
    done = run("ask", "x", "-p", "no_such=1")
    assert done.returncode == 2
    assert "local" in done.stderr


@pytest.mark.parametrize(
    "text, complaint",
    [
        pytest.param('default = "gone"\n', "UnknownProviderError", id="unknown default"),
        pytest.param("default = \n", "ConfigError", id="malformed"),
    ],
)
def test_wrong_configuration_is_told_and_not_passed_over(
    run: Run, tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "lmgateway.toml").write_text(text)
    done = run("ask", "x")
    assert done.returncode == 2
    assert done.stderr.startswith(f"lmgateway: {complaint}: ")


# -- on a terminal -------------------------------------------------------------------------------


def test_terminal_sees_the_answer_and_nothing_else(terminal: Open) -> None:
    shell = terminal("ask", "-m", "echo", "word " * 30, columns=60)
    assert shell.wait() == 0
    assert shell.shown == "word " * 30 + "\r\n"


def test_no_escape_sequence_reaches_the_terminal(terminal: Open) -> None:
    shell = terminal("ask", "-m", "rude", "x")
    assert shell.wait() == 0
    assert shell.shown == "\N{REPLACEMENT CHARACTER}[2Jgone\r\n"


def test_pipe_gets_the_answer_untouched(environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lmgateway", "ask", "-m", "rude", "x"],
        stdin=subprocess.DEVNULL, capture_output=True, env=environment, cwd=tmp_path, timeout=30,
    )  # fmt: skip
    assert done.stdout == b"\x1b[2Jgone\r\n"


def test_terminal_without_a_prompt_does_not_wait_for_one(terminal: Open) -> None:
    shell = terminal("ask", "-m", "echo")
    assert shell.wait() == 2
    assert "give a prompt" in shell.shown


@pytest.mark.loopback
def test_ctrl_c_ends_the_line_and_the_connection(terminal: Open) -> None:
    with serve(STREAM) as service:
        shell = terminal("ask", "-m", "openai/m", "tell", OPENAI_API_BASE=service.base_url)
        shell.read_until("once upon")
        assert not service.left.is_set()
        assert shell.interrupt() == 130
        assert service.left.wait(5)
    assert shell.shown == "once upon^C\r\n"


@pytest.mark.loopback
def test_ctrl_c_before_the_first_word(terminal: Open) -> None:
    with serve(STREAM[: STREAM.index(b"data:")]) as service:
        shell = terminal("ask", "-m", "openai/m", "tell", OPENAI_API_BASE=service.base_url)
        assert service.asked.wait(30)
        assert shell.interrupt() == 130
        assert service.left.wait(5)
    assert shell.shown == "^C\r\n"


@pytest.mark.loopback
def test_answer_that_breaks_off_leaves_its_line_to_the_error(terminal: Open) -> None:
    with serve(STREAM, stays=False) as service:
        shell = terminal("ask", "-m", "openai/m", "tell", OPENAI_API_BASE=service.base_url)
        assert shell.wait() == 1
    assert shell.shown.startswith("once upon\r\nlmgateway: StreamInterruptedError: ")


@pytest.mark.loopback
def test_refusal_of_a_service_is_one_line_and_status_1(run: Run) -> None:
    with serve(UNAUTHORIZED) as service:
        done = run("ask", "-m", "openai/m", "x", OPENAI_API_BASE=service.base_url,
                   OPENAI_API_KEY="sk-canary")  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("lmgateway: AuthenticationError: ")
    assert done.stderr.count("\n") == 1
    assert "canary" not in done.stderr


@pytest.mark.real
def test_real_server_streams_to_the_terminal(terminal: Open, llama_server: LlamaServer) -> None:
    shell = terminal(
        "ask", "-m", f"openai/{llama_server.model}", "What is the capital of Japan?",
        "-p", "temperature=0", "-p", "max_tokens=30",
        OPENAI_API_BASE=llama_server.base_url, OPENAI_API_KEY=llama_server.api_key,
    )  # fmt: skip
    assert shell.wait() == 0
    assert "Tokyo" in shell.shown
