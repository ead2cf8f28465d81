"""Whatever is wrong in a file is told with its line, before anything is opened."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lmgateway import ConfigError, LMGatewayError, get_lm
from lmgateway._config import provenance

Write = Callable[..., Path]

SECRET = "sk-0123456789abcdef"

CASES = {
    # name: (text, the name to get, line or line:column, what the message holds)
    "malformed": ('default = "echo"\n[models.x\n', "echo", "2:10", "this is no TOML"),
    "malformed-value": ("default = echo\n", "echo", "1:11", "this is no TOML"),
    "unclosed-string": ('default = "echo\n', "echo", "1:16", "this is no TOML"),
    "cut-short": ('default = "echo"\nx = [1,\n', "echo", "2:8", "this is no TOML"),
    "twice": ('default = "a"\ndefault = "b"\n', "echo", "2:14", "this is no TOML"),
    "unknown-section": ('[model.x]\nprovider = "echo"\n', "echo", "1", "'models'"),
    "unknown-key-nothing-near": ("zzz = 1\n", "echo", "1", "cache, default"),
    "unknown-model-key": (
        '[models.x]\nprovider = "echo"\ntimeot = 3\n', "x", "3", "'timeout'",
    ),
    "unknown-setting-of-a-plugin": (
        '[models.x]\nprovider = "openai"\nmodel = "m"\n\nuse_chat = true\n',
        "x", "5", "'use_chat_api'",
    ),
    "unknown-provider-key": (
        '[providers.openai]\napi_bse = "https://x.example"\n', "openai/m", "2", "'api_base'",
    ),
    "unknown-cache-key": ("[cache]\nsize = 3\n", "echo", "2", "cache has an unknown key 'size'"),
    "unknown-limit": ("[limits.echo]\n\nrmp = 3\n", "echo", "3", "'rpm'"),
    "limit-of-a-misspelt-provider": ("[limits.opnai]\nrpm = 3\n", "echo", "1", "'openai'"),
    "misspelt-provider": ("[providers.opnai]\n", "echo", "1", "'openai'"),
    "unknown-parameter": (
        '[models.x]\nprovider = "openai"\nmodel = "m"\nparams = { temprature = 1 }\n',
        "x", "4", "'temperature'",
    ),
    "parameter-beside-params": (
        '[models.x]\nprovider = "openai"\nmodel = "m"\ntemperature = 1\n', "x", "4", "params = {",
    ),
    "parameter-out-of-range": (
        '[models.x]\nprovider = "openai"\nmodel = "m"\n[models.x.params]\nmax_tokens = -1\n',
        "x", "5", "max_tokens must be",
    ),
    "not-a-number": (
        '[models.x]\nprovider = "openai"\nmodel = "m"\nparams = { temperature = nan }\n',
        "x", "4", "temperature is nan",
    ),
    "date": (
        '[models.x]\nprovider = "openai"\nmodel = "m"\nparams = { stop = 2026-01-01 }\n',
        "x", "4", "stop is a date",
    ),
    "option-of-wrong-type": (
        '[models.x]\nprovider = "echo"\ntimeout = "30"\n', "x", "3", "timeout must be a number",
    ),
    "history-beyond-any-memory": (
        '[models.x]\nprovider = "echo"\nhistory = 1000000000000000000000\n',
        "x", "3", "history must be at most",
    ),
    "verify-off": ('[models.x]\nprovider = "echo"\nverify = false\n', "x", "3", "turned off"),
    "setting-of-wrong-type": (
        '[providers.openai]\nuse_chat_api = "perhaps"\n', "openai/m", "2", "use_chat_api",
    ),
    "default-of-wrong-type": ("default = 3\n", "echo", "1", "default must be a text"),
    "default-empty": ('default = ""\n', "echo", "1", "default is empty"),
    "models-no-table": ("models = 3\n", "echo", "1", "models must be a table"),
    "model-no-table": ("[models]\nx = 3\n", "echo", "2", "models.x must be a table"),
    "model-without-provider": ('\n[models.x]\nmodel = "m"\n', "echo", "2", "needs a provider"),
    "provider-with-slash": (
        '[models.x]\nprovider = "groq/llama"\n', "echo", "2", "provider = 'groq', model = 'llama'",
    ),
    "model-name-with-slash": ('[models."a/b"]\nprovider = "echo"\n', "echo", "1", "no '/'"),
    "model-named-as-a-plugin": ('[models.echo]\nprovider = "echo"\n', "echo", "1", "rename it"),
    "model-named-as-a-host": ('[models.groq]\nprovider = "echo"\n', "echo", "1", "rename it"),
    "model-named-as-a-table": (
        '[models.x]\nprovider = "echo"\n[providers.x]\nplugin = "openai"\n', "x", "1", "rename it",
    ),
    "alias-of-itself": ('[models.a]\nalias = "a"\n', "echo", "2", "circle: a -> a"),
    "alias-cycle": (
        '[models.a]\nalias = "b"\n[models.b]\nalias = "c"\n[models.c]\nalias = "b"\n',
        "echo", "6", "circle: b -> c -> b",
    ),
    "alias-of-nothing": ('[models.a]\nalias = "ehco"\n', "a", "2", "'echo'"),
    "alias-with-more": (
        '[models.a]\nalias = "b"\nmodel = "m"\n', "echo", "1", "may hold nothing else",
    ),
    "fallback-no-text": (
        '[models.a]\nprovider = "echo"\nfallbacks = [3]\n', "echo", "3", "list of texts",
    ),
    "cache-of-wrong-type": ("[cache]\nenabled = 1\n", "echo", "2", "true or false"),
    "cache-of-no-size": ("[cache]\nsize_mb = 0\n", "echo", "2", "above 0"),
    "limit-below-zero": ("[limits.echo]\nrpm = -1\n", "echo", "2", "above 0"),
    "limit-true": ("[limits.echo]\nin_flight = true\n", "echo", "2", "a whole number"),
    "base-without-scheme": (
        '[providers.openai]\napi_base = "llm.example/v1"\n', "openai/m", "2", "http://",
    ),
    "base-with-userinfo": (
        f'[providers.openai]\napi_base = "https://u:{SECRET}@x.example"\n',
        "openai/m", "2", "user or password",
    ),
    "base-of-a-file": ('[providers.openai]\napi_base = "file:///x"\n', "openai/m", "2", "http://"),
    "key-in-the-file": (
        f'[providers.company]\nplugin = "openai"\napi_key = "{SECRET}"\n',
        "echo", "3", 'api_key_env = "COMPANY_API_KEY"',
    ),
    "key-in-a-model": (
        f'[models.x]\nprovider = "openai"\napi_key = "{SECRET}"\n', "echo", "3", "api_key_env",
    ),
    "key-where-its-variable-should-be": (
        f'[providers.openai]\napi_key_env = "{SECRET}"\n', "echo", "2", "names a variable",
    ),
    "key-in-lower-case-there": (
        '[providers.openai]\napi_key_env = "gsk_0123456789abcdef"\n', "echo", "2", "in capitals",
    ),
    "key-in-a-header": (
        f'[models.x]\nprovider = "echo"\n[models.x.headers]\nAuthorization = "Bearer {SECRET}"\n',
        "echo", "4", "must not stand in a file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("text, name, place, says", CASES.values(), ids=CASES)
def test_what_is_wrong_is_told_with_its_line(
    text: str, name: str, place: str, says: str, write: Write
) -> None:
    path = write(text)

    with pytest.raises(ConfigError) as caught:
        get_lm(name)
    assert f"{path}:{place}" in str(caught.value)
    assert not re.search(rf"{re.escape(str(path))}:{place}\d", str(caught.value))
    assert says in str(caught.value)
    assert "0123456789abcdef" not in str(caught.value)
    assert "0123456789abcdef" not in repr(caught.value.__cause__)


def test_a_secret_that_only_the_plugin_knows_as_one_is_refused(
    write: Write, site_packages: object
) -> None:
    site_packages.install(  # type: ignore[attr-defined]
        "vault",
        """
        from pydantic import BaseModel, SecretStr
        from lmgateway import hookimpl
        class Settings(BaseModel):
            passphrase: SecretStr | None = None
        @hookimpl
        def lmgateway_settings(): return Settings
        @hookimpl
        def lmgateway_complete(request): return {}
        """,
    )
    path = write(f'[providers.vault]\npassphrase = "{SECRET}"\n')

    with pytest.raises(ConfigError, match=f"{path}:2: passphrase is a secret") as caught:
        get_lm("vault/m")
    assert SECRET not in str(caught.value)


def test_a_file_that_is_not_utf8_is_told_with_its_line(write: Write) -> None:
    path = write("")
    path.write_bytes(b'# fine\ndefault = "caf\xe9"\n')

    with pytest.raises(ConfigError, match=f"{path}:2: this is not UTF-8"):
        get_lm("echo")


@pytest.mark.parametrize(
    "value",
    [pytest.param("1" * 5000, id="digits"), pytest.param("[" * 9999 + "]" * 9999, id="deep")],
)
def test_what_python_cannot_read_is_told(write: Write, value: str) -> None:
    path = write(f"x = {value}\n")

    with pytest.raises(ConfigError, match="cannot be read") as caught:
        get_lm("echo")
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_our_table_in_pyproject_is_one(write: Write) -> None:
    path = write('[project]\nname = "x"\n[[tool.lmgateway]]\ndefault = "echo"\n', "pyproject.toml")

    with pytest.raises(ConfigError, match="must be a table") as caught:
        get_lm("echo")
    assert f"{path}:3: " in str(caught.value)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(write: Write) -> None:
    write("").write_bytes(b'\xef\xbb\xbfdefault = "x"\r\n[models.x]\r\nprovider = "echo"\r\n')

    assert get_lm().provider == "echo"


def written_into(pipe: Path, content: bytes) -> threading.Thread:
    """Write into a pipe as soon as somebody reads from it, as 1Password does."""

    def write() -> None:
        with pipe.open("wb") as file:
            file.write(content)

    os.mkfifo("fresh")
    os.utime("fresh", ns=(1, 1))  # the clock of files does not tick between two of these
    os.replace("fresh", pipe)
    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "content",
    [b"OPENAI_API_KEY=sk-pipe\n", b"# " + b"x" * 200_000 + b"\nOPENAI_API_KEY=sk-pipe"],
    ids=["short", "more than a pipe holds"],
)
def test_a_dotenv_may_be_a_pipe(content: bytes) -> None:
    writer = written_into(Path(".env"), content)

    for _ in range(3):  # it is not asked again before somebody has written into it again
        shown = get_lm("openai/m").settings.api_key
        assert shown.get_secret_value() == "sk-pipe"
    writer.join(10)
    assert not writer.is_alive()


def test_a_pipe_that_says_something_new_is_read_anew() -> None:
    for name in ("sk-1", "sk-2"):
        writer = written_into(Path(".env"), f"OPENAI_API_KEY={name}\n".encode())
        assert get_lm("openai/m").settings.api_key.get_secret_value() == name
        writer.join(10)


@pytest.mark.parametrize(
    "content", [None, b"", b"OPENAI_API_KEY=sk-\xff"], ids=["nobody writes", "nothing", "latin-1"]
)
def test_a_pipe_that_says_nothing_is_warned_of_and_waited_for_once(
    content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "PIPE_TIMEOUT", 0.2)
    if content is None:
        os.mkfifo(".env")
    else:
        written_into(Path(".env"), content)

    with pytest.warns(UserWarning, match=r"\.env was not read: it is "):
        get_lm("openai/m")
    assert get_lm("openai/m").model == "m"


def test_a_pipe_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "LARGEST_PIPE", 100_000)
    os.mkfifo(".env")
    end = os.open(".env", os.O_RDWR)

    def write() -> None:
        while True:
            os.write(end, b"#" * 10_000)

    threading.Thread(target=write, daemon=True).start()
    with pytest.warns(UserWarning, match="its end did not come"):
        get_lm("openai/m")


def test_an_unclosed_quote_in_dotenv_is_told_with_its_line_and_without_its_content(
    write: Write,
) -> None:
    path = write(f'A=1\n\nOPENAI_API_KEY="{SECRET}\n', ".env")

    with pytest.raises(ConfigError, match=f"{path}:3") as caught:
        get_lm("openai/m")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", ["llm.example/v1", "https://u:p@x.example", "file:///x"])
def test_a_bad_base_is_refused_wherever_it_comes_from(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_BASE", value)

    with pytest.raises(LMGatewayError, match=r"api_base.*GROQ_API_BASE"):
        get_lm("groq/m")


def test_one_wrong_model_does_not_stand_in_the_way_of_another(write: Write) -> None:
    write(
        '[models.broken]\nprovider = "acme"\nmodel = "m"\nwhatever = 1\n'
        '[models.whole]\nprovider = "echo"\n'
    )

    assert get_lm("whole").provider == "echo"
