from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support.distributions import SitePackages

from lmgateway import ConfigError, InputError, UnknownProviderError, get_lm
from lmgateway._config.names import select
from lmgateway._plugins.registry import PUBLISHED
from lmgateway.errors import PluginLoadError
from lmgateway.lm import spec_of

Write = Callable[..., Path]

FILE = """\
default = "fast"

[models.fast]
provider = "company"
model = "org/large"
params = { temperature = 0.5, max_tokens = 7 }
timeout = 9
use_chat_api = false

[models.careful]
alias = "elsewhere"

[models.elsewhere]
alias = "fast"

[models.said]
provider = "echo"

[providers.company]
plugin = "openai"
api_base = "https://llm.company.example/v1"
api_key_env = "COMPANY_KEY"
retries = 1

[cache]
enabled = false
path = "kept"

[limits.company]
rpm = 60
in_flight = 2
"""


@pytest.fixture(autouse=True)
def path(write: Write) -> Path:
    return write(FILE)


@pytest.mark.parametrize(
    "name, model, provider, resolved",
    [
        pytest.param("echo", None, "echo", "echo", id="provider-with-a-default-model"),
        pytest.param("echo", "m", "echo", "m", id="provider-and-model"),
        pytest.param("company", "m/x", "company", "m/x", id="own-provider-and-model"),
        pytest.param("company/m/x", None, "company", "m/x", id="text-before-the-first-slash"),
        pytest.param("fast", None, "company", "org/large", id="a-model"),
        pytest.param("careful", None, "company", "org/large", id="an-alias-of-an-alias"),
        pytest.param("said", None, "echo", "echo", id="a-model-without-a-model"),
        pytest.param(None, None, "company", "org/large", id="the-default"),
        pytest.param("groq/llama", None, "groq", "llama", id="a-row-of-the-catalogue"),
    ],
)
def test_a_name_stands_for(name: str, model: str, provider: str, resolved: str) -> None:
    lm = get_lm(name, model=model)

    assert (lm.provider, lm.model) == (provider, resolved)


def test_a_model_brings_its_options_settings_and_parameters() -> None:
    lm = get_lm("fast")

    assert lm.options.timeout == 9
    assert lm.options.retries == 1  # its provider's
    assert lm.settings.use_chat_api is False
    assert lm.settings.api_base == "https://llm.company.example/v1"
    assert lm.params == {"temperature": 0.5, "max_tokens": 7}


def test_an_argument_goes_before_the_file() -> None:
    lm = get_lm("fast", temperature=1, timeout=3, use_chat_api=True, api_base="https://x.example")

    assert lm.params["temperature"] == 1
    assert lm.options.timeout == 3
    assert lm.settings.use_chat_api is True
    assert lm.settings.api_base == "https://x.example"


def test_none_is_a_timeout_of_its_own() -> None:
    assert get_lm("fast", timeout=None).options.timeout is None


def test_a_provider_brings_what_is_its_own_but_no_models() -> None:
    lm = get_lm("company/m")

    assert lm.options.retries == 1
    assert lm.options.timeout == 60
    assert lm.params == {}


def test_the_tables_for_the_whole_process_come_along(path: Path) -> None:
    selection = select("fast", None)

    assert {name: each.value for name, each in selection.limits.items()} == {
        "rpm": 60,
        "in_flight": 2,
    }
    assert selection.limits["rpm"].place == f"{path}:30"
    assert selection.cache["enabled"].value is False
    assert selection.cache["path"].value == str(path.parent / "kept")
    assert selection.config == str(path)


def test_variables_are_those_of_the_provider_never_of_its_plugin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-them")
    monkeypatch.setenv("COMPANY_USE_CHAT_API", "true")
    lm = get_lm("company/m")

    assert lm.settings.use_chat_api is True
    assert "sk-not-for-them" not in list(spec_of(lm).settings.secrets())


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_the_variable_replaces_the_default_and_nothing_else(
    place: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "environment":
        monkeypatch.setenv("LMGATEWAY_MODEL", "said")
    else:
        write("LMGATEWAY_MODEL=said\n", ".env")

    assert get_lm().provider == "echo"
    assert get_lm("fast").provider == "company"


def test_a_model_takes_no_other_model() -> None:
    with pytest.raises(InputError, match="takes no model="):
        get_lm("fast", model="m")


@pytest.mark.parametrize("way", ["get_lm", "copy"])
def test_a_name_with_a_model_takes_no_other_model(way: str) -> None:
    get = get_lm if way == "get_lm" else get_lm("echo").copy
    with pytest.raises(InputError, match="'company/m' names a model already"):
        get(name="company/m", model="n")


def test_without_any_default_it_says_what_to_do(write: Write) -> None:
    write("")

    with pytest.raises(
        InputError, match=r"no default: give a name.*LMGATEWAY_MODEL.*lmgateway.toml"
    ):
        get_lm()


MISSPELT = {
    # name: what the message offers
    "grok/x": "did you mean 'groq'",
    "opnai/gpt-4o-mini": "did you mean 'openai'",
    "opnai": "did you mean 'openai'",
    "antropic/claude": "did you mean 'anthropic'",
    "OpenAI/gpt-4o-mini": "did you mean 'openai'",
    "GROQ/llama": "did you mean 'groq'",
    "compny/x": "did you mean 'company'",
    "fats": "did you mean 'fast'",
    "FAST": "did you mean 'fast'",
    "carefull": "did you mean 'careful'",
    "openai:gpt-4o-mini": "before the model: 'openai/gpt-4o-mini'",
    "openai.gpt-4o-mini": "before the model: 'openai/gpt-4o-mini'",
    "openai-gpt-4o-mini": "before the model: 'openai/gpt-4o-mini'",
    "openai gpt-4o-mini": "before the model: 'openai/gpt-4o-mini'",
    "openai\\gpt-4o-mini": "before the model: 'openai/gpt-4o-mini'",
    "Groq: llama": "before the model: 'groq/llama'",
    "company|m": "before the model: 'company/m'",
    "fast/m": "it names a model in {path}, so nothing follows it: get_lm('fast')",
    "zzz/m": "models in {path}: ",
    "gpt-4o-mini": "a model's name follows its provider's: 'openai/gpt-4o-mini'",
}


@pytest.mark.parametrize("name", MISSPELT)
def test_an_unknown_name_is_told_what_is_near(name: str, path: Path) -> None:
    with pytest.raises(UnknownProviderError) as caught:
        get_lm(name)
    message = str(caught.value)
    assert MISSPELT[name].format(path=path) in message
    assert "installed are:" in message


@pytest.mark.parametrize("name", ["zzz", "opnai", "x" * 5000, "fats/m"])
def test_no_message_lists_more_than_a_handful_of_a_kind(name: str, write: Write) -> None:
    write("".join(f'[models.model-{n}]\nprovider = "echo"\n' for n in range(70)))

    with pytest.raises(UnknownProviderError) as caught:
        get_lm(name)
    message = str(caught.value)
    lists = re.findall(r"(?:installed are|models in [^;]*?|known as well): ([^;]*)", message)
    assert len(lists) == 3
    assert all(len(each.partition(" and ")[0].split(", ")) <= 5 for each in lists)
    assert "and 65 more" in message
    assert len(message) < 1000


def test_the_nearest_come_first_whatever_their_kind(write: Write) -> None:
    write("".join(f'[models.{n}]\nprovider = "echo"\n' for n in ("abcdef", "abcdxy", "quite")))

    with pytest.raises(UnknownProviderError, match="toml: abcdxy, abcdef, quite;") as caught:
        get_lm("abcdxz/m")
    assert "known as well: " in str(caught.value)


def test_a_published_plugin_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "parrot", "lmgateway-parrot")
    with pytest.raises(UnknownProviderError, match="pip install lmgateway-parrot"):
        get_lm("parrot/grey")


def test_a_plugin_that_a_table_names_and_nobody_has_is_told_with_its_line(write: Write) -> None:
    path = write('[providers.x]\nplugin = "opnai"\n')

    with pytest.raises(UnknownProviderError, match=rf"'openai'.*{path}:2"):
        get_lm("x/m")


def test_an_installed_plugin_goes_before_the_catalogue(site_packages: SitePackages) -> None:
    site_packages.install("groq", "raise ImportError('this one')")

    with pytest.raises(PluginLoadError, match="this one"):
        get_lm("groq/llama")


def test_a_table_with_a_plugin_goes_before_an_installed_one(
    write: Write, site_packages: SitePackages
) -> None:
    site_packages.install("groq", "raise ImportError('this one')")
    write('[providers.groq]\nplugin = "openai"\n')

    lm = get_lm("groq/llama")
    assert lm.settings.api_base == "https://api.groq.com/openai/v1"  # not OpenAI's


def test_a_copy_keeps_what_the_file_said() -> None:
    lm = get_lm("fast").copy(model="small", max_tokens=8)

    assert (lm.provider, lm.model) == ("company", "small")
    assert lm.options.timeout == 9
    assert lm.params == {"temperature": 0.5, "max_tokens": 8}


def test_a_copy_may_go_by_another_file(write: Write) -> None:
    other = write('[models.fast]\nprovider = "echo"\nmodel = "other"\n', "other.toml")
    lm = get_lm("fast").copy(config=other)

    assert (lm.provider, lm.model) == ("echo", "other")


def test_a_pickle_needs_no_file(path: Path) -> None:
    pickled = pickle.dumps(get_lm("fast"))
    path.unlink()
    lm = pickle.loads(pickled)

    assert (lm.provider, lm.model, lm.options.timeout) == ("company", "org/large", 9)


def test_a_fallback_is_found_in_the_same_file(write: Write) -> None:
    other = write(
        '[models.first]\nprovider = "company"\nmodel = "m"\nfallbacks = ["second"]\n'
        '[models.second]\nprovider = "echo"\n'
        '[providers.company]\nplugin = "openai"\napi_base = "http://127.0.0.1:9"\n',
        "other.toml",
    )
    lm = get_lm("first", config=other)
    again = copy.copy(lm)

    assert again.options.fallbacks == ("second",)
    assert get_lm(lm.options.fallbacks[0], config=other).provider == "echo"


def test_errors_of_the_file_come_with_any_name(write: Write) -> None:
    write("[models.x]\nprovidr = 3\n")

    with pytest.raises(ConfigError):
        get_lm("echo")
