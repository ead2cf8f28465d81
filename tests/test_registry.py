from __future__ import annotations

import sys
from importlib.metadata import version

import pytest
from support.distributions import SitePackages

import lmgateway
from lmgateway import errors, registry

GOOD = """
from lmgateway import hookimpl

@hookimpl
def lmgateway_complete(request):
    return {"prompt": request.prompt, "choices": [{"text": "good"}]}
"""


def test_a_plugin_answers_through_get_lm(site_packages: SitePackages) -> None:
    site_packages.install("acme", GOOD)
    assert lmgateway.get_lm("acme", model="m")("hi") == ["good"]


def test_providers_lists_name_distribution_and_version(site_packages: SitePackages) -> None:
    module = site_packages.install("acme", "raise RuntimeError", version="2.5")
    rows = {row.name: row for row in lmgateway.providers()}
    assert rows["acme"] == ("acme", "lmgateway-acme", "2.5")
    assert rows["echo"].version == version("lmgateway")
    assert module not in sys.modules


def test_a_damaged_distribution_takes_no_other_down(site_packages: SitePackages) -> None:
    site_packages.install("acme", GOOD)
    (info,) = site_packages.folder.glob("*.dist-info")
    (info / "METADATA").unlink()
    rows = {row.name: row for row in lmgateway.providers()}
    assert rows["acme"] == ("acme", "?", "?")
    assert lmgateway.get_lm("acme", model="m")("hi") == ["good"]
    assert lmgateway.get_lm("echo")("still here") == ["still here"]


def test_what_is_installed_later_is_found(site_packages: SitePackages) -> None:
    lmgateway.providers()
    site_packages.install("late", GOOD)
    assert lmgateway.get_lm("late", model="m")("hi") == ["good"]


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(errors.UnknownProviderError, match="did you mean 'openai'"):
        lmgateway.get_lm("opnai", model="m")


def test_a_published_plugin_that_is_missing_names_its_distribution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(registry.PUBLISHED, "parrot", "lmgateway-parrot")
    with pytest.raises(errors.UnknownProviderError, match="pip install lmgateway-parrot"):
        lmgateway.get_lm("parrot", model="m")


def test_a_name_claimed_twice_names_both_distributions(site_packages: SitePackages) -> None:
    site_packages.install("acme", GOOD)
    site_packages.install("acme", GOOD, distribution="other-acme")
    with pytest.raises(errors.DuplicateProviderError) as caught:
        lmgateway.get_lm("acme", model="m")
    assert "lmgateway-acme 1.0" in str(caught.value)
    assert "other-acme 1.0" in str(caught.value)
    assert lmgateway.get_lm("echo")("still here") == ["still here"]


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import a_module_that_is_not_there", id="import error"),
        pytest.param("def broken(:", id="syntax error"),
        pytest.param("import sys; sys.exit(3)", id="sys.exit"),
    ],
)
def test_a_plugin_that_does_not_import_harms_nobody_else(
    site_packages: SitePackages, code: str
) -> None:
    site_packages.install("broken", code)
    with pytest.raises(errors.PluginLoadError, match=r"lmgateway-broken 1\.0") as caught:
        lmgateway.get_lm("broken", model="m")
    assert caught.value.__cause__ is not None
    assert lmgateway.get_lm("echo")("hi") == ["hi"]


INFO = """
from lmgateway import hookimpl
from lmgateway.types import Info
"""


@pytest.mark.parametrize(
    "code, error, message",
    [
        pytest.param(
            "from lmgateway import hookimpl\n@hookimpl\ndef lmgateway_compleat(request): ...",
            errors.PluginContractError,
            "lmgateway_compleat",
            id="a misspelt hook",
        ),
        pytest.param(
            "from lmgateway import hookimpl\n@hookimpl\ndef lmgateway_complete(requset): ...",
            errors.PluginContractError,
            "requset",
            id="an unknown argument",
        ),
        pytest.param(
            "from lmgateway import hookimpl\n"
            "@hookimpl\ndef lmgateway_complete(request, tries=3): ...",
            errors.PluginContractError,
            "'tries'",
            id="an argument with a default",
        ),
        pytest.param(
            "def lmgateway_complete(request): ...",
            errors.PluginContractError,
            "@hookimpl",
            id="an unmarked hook",
        ),
        pytest.param(
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(): return Info(api=2)",
            errors.PluginVersionError,
            "pip install -U lmgateway",
            id="a newer API",
        ),
        pytest.param(
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(): return Info(api=2)\n"
            "@hookimpl\ndef lmgateway_of_the_future(): ...",
            errors.PluginVersionError,
            "version 2",
            id="a newer API with hooks we do not know",
        ),
        pytest.param(
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(): return Info(api=0)",
            errors.PluginVersionError,
            "newer version of the plugin",
            id="an older API",
        ),
        pytest.param(
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(): return {'api': 1}",
            errors.PluginContractError,
            "dict, not Info",
            id="info of a wrong type",
        ),
        pytest.param(
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(): return Info(api='1')",
            errors.PluginContractError,
            r"lmgateway-wrong 1\.0 .*Info.api must be an int, not str",
            id="an API that is text",
        ),
        pytest.param(
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(): return Info(api=True)",
            errors.PluginContractError,
            "Info.api must be an int, not bool",
            id="an API that is true",
        ),
        pytest.param(
            INFO + GOOD + "from pydantic import BaseModel\nclass S(BaseModel):\n    a: int = 1\n"
            "@hookimpl\ndef lmgateway_settings(): return S\n"
            "@hookimpl\ndef lmgateway_info(): return Info(params=['top_p'])",
            errors.PluginContractError,
            r"lmgateway-wrong 1\.0 .*Info.params must be a frozenset of str, not list",
            id="parameters in a list, and settings",
        ),
        pytest.param(
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(): return Info(params='temperature')",
            errors.PluginContractError,
            "Info.params must be a frozenset of str, not str",
            id="parameters that are one text",
        ),
        pytest.param(
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(): return Info(capabilities={3})",
            errors.PluginContractError,
            "Info.capabilities must be a frozenset of str, and 3 in it is none",
            id="a capability that is a number",
        ),
        pytest.param(
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(): return Info(default_model=3)",
            errors.PluginContractError,
            "Info.default_model must be a str or None, not int",
            id="a default model that is a number",
        ),
        pytest.param(
            "from lmgateway import hookimpl\n@hookimpl\ndef lmgateway_complete(request, /): ...",
            errors.PluginContractError,
            r"lmgateway-wrong 1\.0 .*'request' of lmgateway_complete is positional-only",
            id="a positional-only argument",
        ),
        pytest.param(
            "from lmgateway import hookimpl\n@hookimpl\ndef lmgateway_complete(*, request): ...",
            errors.PluginContractError,
            "'request' of lmgateway_complete is keyword-only",
            id="a keyword-only argument",
        ),
        pytest.param(
            "from lmgateway import hookimpl\n@hookimpl\ndef lmgateway_compleat(request): ...\n"
            "@hookimpl\ndef lmgateway_info(): raise SystemExit",
            errors.PluginContractError,
            "lmgateway_compleat",
            id="a misspelt hook, and an info that leaves",
        ),
        pytest.param(
            GOOD + "@hookimpl\ndef lmgateway_settings(): return dict",
            errors.PluginContractError,
            "BaseModel",
            id="settings of a wrong type",
        ),
        pytest.param(
            GOOD + "from pydantic import BaseModel\nclass S(BaseModel):\n    timeout: int = 3\n"
            "@hookimpl\ndef lmgateway_settings(): return S",
            errors.PluginContractError,
            "'timeout' shadows",
            id="a setting that shadows a core option",
        ),
        pytest.param(
            INFO
            + GOOD
            + "from pydantic import BaseModel\nclass S(BaseModel):\n    top_p: int = 3\n"
            "@hookimpl\ndef lmgateway_settings(): return S\n"
            "@hookimpl\ndef lmgateway_info(): return Info(params=frozenset({'top_p'}))",
            errors.PluginContractError,
            "'top_p' shadows",
            id="a setting that shadows a parameter",
        ),
    ],
)
def test_a_plugin_that_breaks_the_contract_is_refused_at_load(
    site_packages: SitePackages, code: str, error: type[Exception], message: str
) -> None:
    site_packages.install("wrong", code)
    with pytest.raises(error, match=message):
        lmgateway.get_lm("wrong", model="m")


@pytest.mark.parametrize(
    "body, error, message",
    [
        pytest.param("return 'text'", errors.PluginContractError, "returned str", id="a str"),
        pytest.param("return None", errors.PluginContractError, "NoneType", id="None"),
        pytest.param("return {}", errors.PluginContractError, "choices", id="no choices"),
        pytest.param(
            "return {'choices': [{'text': None}]}",
            errors.PluginContractError,
            r"choices\[0\]",
            id="a text that is None",
        ),
        pytest.param("1 / 0", errors.PluginError, "ZeroDivisionError", id="raises"),
        pytest.param("raise SystemExit", errors.PluginError, "SystemExit", id="sys.exit"),
        pytest.param(
            "yield 'what'", errors.PluginContractError, "no effect", id="yields no effect"
        ),
        pytest.param("yield from (); 1 / 0", errors.PluginError, "ZeroDivision", id="flow raises"),
    ],
)
def test_a_plugin_that_fails_in_a_call_is_named(
    site_packages: SitePackages, body: str, error: type[Exception], message: str
) -> None:
    site_packages.install(
        "wrong",
        "from lmgateway import hookimpl\n@hookimpl\ndef lmgateway_complete(request):\n    " + body,
    )
    lm = lmgateway.get_lm("wrong", model="m")
    with pytest.raises(error, match=message) as caught:
        lm("hi")
    assert "lmgateway-wrong 1.0" in str(caught.value)


def test_a_plugin_without_info_takes_a_bare_prompt_only(site_packages: SitePackages) -> None:
    site_packages.install("bare", GOOD)
    lm = lmgateway.get_lm("bare", model="m")
    with pytest.raises(errors.UnsupportedError, match="messages"):
        lm(messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(errors.UnsupportedError, match="streams"):
        lm.stream("hi")
    with pytest.raises(errors.UnsupportedError, match="temperature"):
        lm("hi", temperature=0)
    with pytest.raises(errors.UnsupportedError, match="models"):
        lm.models()
