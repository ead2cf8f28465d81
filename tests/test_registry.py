from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import pytest
from support.distributions import SitePackages

import lmgateway
from lmgateway import errors
from lmgateway._call.endpoint import user_agent
from lmgateway._config.catalogue import hosts
from lmgateway._plugins import registry
from lmgateway._plugins.distributions import OWN
from lmgateway.cli.doctor import examine

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]

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
    assert rows["echo"].version == version("lmgateway-core") == PROJECT["version"]
    assert module not in sys.modules


def test_a_damaged_distribution_takes_no_other_down(site_packages: SitePackages) -> None:
    site_packages.install("acme", GOOD)
    (info,) = site_packages.folder.glob("*.dist-info")
    (info / "METADATA").unlink()
    rows = {row.name: row for row in lmgateway.providers()}
    assert rows["acme"] == ("acme", "?", "?")
    assert lmgateway.get_lm("acme", model="m")("hi") == ["good"]
    assert lmgateway.get_lm("echo")("still here") == ["still here"]


WEIRD = "Metadata-Version: 2.1\nName: weird\nVersion: 1.0\n"
OURS = "[lmgateway.providers]\n"

#: What else lies in site-packages: the name of a folder, and its files.
LEFT_OVER: dict[str, tuple[str, dict[str, bytes | str | None]]] = {
    "a header without its end": ("weird-1.0.dist-info", {"entry_points": "[lmgateway.providers\n"}),
    "UTF-16": ("weird-1.0.dist-info", {"entry_points": (OURS + "x = y\n").encode("utf-16")}),
    "latin-1": ("weird-1.0.dist-info", {"entry_points": b"[a]\n\xe9t\xe9 = x\n" + OURS.encode()}),
    "a name alone": ("weird-1.0.dist-info", {"entry_points": OURS + "just a name\n"}),
    "no name": ("weird-1.0.dist-info", {"entry_points": OURS + "= a_module\n"}),
    "no value": ("weird-1.0.dist-info", {"entry_points": OURS + "weird =\n"}),
    "no module": ("weird-1.0.dist-info", {"entry_points": OURS + "weird = ../x.py\n"}),
    "lines before a header": ("weird-1.0.dist-info", {"entry_points": "stray\n[a]\nb = c\n"}),
    "NULs": ("weird-1.0.dist-info", {"entry_points": b"\0" * 512}),
    "a folder": ("weird-1.0.dist-info", {"entry_points": None, "METADATA": WEIRD}),
    "nothing in it": ("weird-1.0.dist-info", {}),
    "METADATA in latin-1": ("weird-1.0.dist-info", {"METADATA": b"Name: \xe9t\xe9\n"}),
    "METADATA that is a folder": ("weird-1.0.dist-info", {"METADATA": None}),
    "no name in it": ("weird-1.0.dist-info", {"METADATA": "Version: 1\n", "entry_points": OURS}),
    "no version in it": ("weird-1.0.dist-info", {"METADATA": "Name: weird\n"}),
    "a broken RECORD": ("weird-1.0.dist-info", {"METADATA": WEIRD, "RECORD": b'\xff,,\n"a'}),
    "an egg-info": ("weird.egg-info", {"PKG_INFO": WEIRD, "entry_points": OURS + "weird"}),
    "an egg-info of ours": ("lmgateway_core.egg-info", {"PKG_INFO": "Name: lmgateway-core\n"}),
    "an old one of ours": (
        "lmgateway_core-0.0.9.dist-info",
        {"METADATA": "Name: lmgateway-core\n"},
    ),
    "an empty one of ours": ("lmgateway_core-0.0.9.dist-info", {}),
    "0.1 of ours": (
        "lmgateway-0.1.0.dist-info",
        {
            "METADATA": "Name: lmgateway\nVersion: 0.1.0\n",
            "entry_points": OURS + "echo = lmgateway.where_it_was\nopenai = lmgateway.too\n",
        },
    ),
    "somebody else's lmgateway": (
        "lmgateway-9.0.dist-info",
        {"METADATA": "Name: lmgateway\nVersion: 9.0\n"},
    ),
    "pip's of ours": (
        "~gateway_core-0.0.9.dist-info",
        {
            "METADATA": "Name: lmgateway-core\nVersion: 0.0.9\n",
            "entry_points": OURS + "echo = lmgateway._plugins.echo\nopenai = gone\n",
        },
    ),
    "ours under another name": (
        "formerly_ours-9.0.dist-info",
        {
            "METADATA": "Name: formerly-ours\nVersion: 9.0\n",
            "entry_points": OURS + "echo = lmgateway._plugins.echo\n",
        },
    ),
    "pip's of a provider": (
        "~gateway_acme-0.9.dist-info",
        {
            "METADATA": "Name: lmgateway-acme\nVersion: 0.9\n",
            "entry_points": OURS + "acme = formerly\n",
        },
    ),
    "pip's older": (
        "-gateway_acme-0.9.dist-info",
        {
            "METADATA": "Name: lmgateway-acme\nVersion: 0.9\n",
            "entry_points": OURS + "acme = formerly\n",
        },
    ),
    "an emptied version": ("lmgateway_acme-0.1.dist-info", {}),
    "an emptied entry_points.txt": ("lmgateway_acme-0.1.dist-info", {"entry_points": ""}),
    "no name at all": (".dist-info", {"entry_points": OURS + "weird = weird\n"}),
}


@pytest.mark.parametrize("kind", LEFT_OVER)
def test_what_lies_about_harms_nobody(site_packages: SitePackages, kind: str) -> None:
    folder, files = LEFT_OVER[kind]
    site_packages.leave(folder, **files)
    site_packages.install("acme", GOOD)
    assert lmgateway.get_lm("acme", model="m")("hi") == ["good"]
    assert lmgateway.get_lm("echo")("hi") == ["hi"]
    assert lmgateway.get_lm("groq/m", api_key="k").provider == "groq"
    rows = {row.name: row for row in lmgateway.providers()}
    assert rows["acme"] == ("acme", "lmgateway-acme", "1.0")
    assert rows["echo"] == ("echo", "lmgateway-core", PROJECT["version"])


@pytest.mark.parametrize(
    "folder, files, advice",
    [
        pytest.param(
            "~gateway_lost-1.0.dist-info",
            {"entry_points": OURS + "lost = lmgateway_lost\n"},
            r"~gateway_lost-1\.0\.dist-info in .*site-packages is what an interrupted pip left",
            id="pip's leftover",
        ),
        pytest.param(
            "weird-1.0.dist-info",
            {"METADATA": WEIRD, "entry_points": OURS + "lost\n"},
            r"entry point 'lost' of weird-1\.0\.dist-info in .*site-packages names no module",
            id="a name alone",
        ),
        pytest.param(
            "weird-1.0.dist-info",
            {
                "METADATA": WEIRD,
                "entry_points": b"[x]\n\xff = 3\n" + OURS.encode() + b"lost = \xff",
            },
            r"entry point 'lost = .' of weird-1\.0\.dist-info",
            id="not UTF-8",
        ),
        pytest.param(
            "lmgateway_lost-1.0.dist-info",
            {"METADATA": "Name: lmgateway-lost\nVersion: 1.0\n"},
            "lmgateway-lost is installed, but its entry points do not offer it: reinstall it",
            id="no entry points",
        ),
        pytest.param(
            "lmgateway_lost-1.0.dist-info",
            {"METADATA": "Name: lmgateway-lost\nVersion: 1.0\n", "entry_points": None},
            "lmgateway-lost is installed, but",
            id="a folder for entry_points.txt",
        ),
    ],
)
def test_what_is_broken_is_named_when_it_is_asked_for(
    site_packages: SitePackages, folder: str, files: dict[str, bytes | str | None], advice: str
) -> None:
    site_packages.leave(folder, **files)
    with pytest.raises(errors.UnknownProviderError, match=advice):
        lmgateway.get_lm("lost", model="m")


def test_the_doctor_names_what_is_broken(site_packages: SitePackages) -> None:
    site_packages.leave("~ost-1.0.dist-info", entry_points=OURS + "lost = lmgateway_lost\n")
    found = {finding.what: finding for finding in examine("echo")}
    assert found["plugin lost"].ok is False
    assert "~ost-1.0.dist-info in" in found["plugin lost"].fact
    assert found["plugin lost"].next == "reinstall it"
    assert found["call"].ok


def test_a_line_that_is_there_twice_is_one_provider(site_packages: SitePackages) -> None:
    site_packages.install("acme", GOOD)
    (points,) = site_packages.folder.glob("*.dist-info/entry_points.txt")
    points.write_text(f"# twice\n{points.read_text() * 2}\n[other]\nx = y\n")
    assert lmgateway.get_lm("acme", model="m")("hi") == ["good"]


def test_two_lines_that_differ_are_told_apart(site_packages: SitePackages) -> None:
    site_packages.install("acme", GOOD)
    (points,) = site_packages.folder.glob("*.dist-info/entry_points.txt")
    points.write_text(f"{points.read_text()}acme = another\n")
    with pytest.raises(
        errors.DuplicateProviderError,
        match=r"1\.0 \(lmgateway_acme_\d+\) and by .* 1\.0 \(another\)",
    ):
        lmgateway.get_lm("acme", model="m")


def test_of_one_distribution_in_two_folders_the_first_counts(
    site_packages: SitePackages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_packages.install("acme", GOOD)
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.syspath_prepend(str(other))
    first = SitePackages(other, monkeypatch)
    first.install("acme", GOOD.replace("good", "first"), version="2.0")
    assert lmgateway.get_lm("acme", model="m")("hi") == ["first"]


ODD_ENTRIES: dict[str, Any] = {
    "no text": 3,
    "None": None,
    "a path": Path("/nowhere"),
    "bytes": b"/nowhere",
    "a list": ["/nowhere"],
    "not there": "/nowhere/at/all",
    "a NUL": "/nowhere\0",
    "a file": __file__,
    "half a surrogate": "/\ud800",
    "too long": "/" + "x" * 5000,
    "nothing": "",
}


@pytest.mark.parametrize("kind", ODD_ENTRIES)
def test_an_odd_entry_of_the_path_harms_nobody(
    site_packages: SitePackages, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_packages.install("acme", GOOD)
    path = sys.path
    monkeypatch.setattr(sys, "path", [ODD_ENTRIES[kind], *path])
    assert {row.name for row in lmgateway.providers()} >= {"acme", "anyscale", "echo"}
    monkeypatch.setattr(sys, "path", [*path, ODD_ENTRIES[kind]])  # some of them stop any import
    assert lmgateway.get_lm("acme", model="m")("hi") == ["good"]
    assert lmgateway.get_lm("echo")("hi") == ["hi"]


def test_what_python_does_not_import_from_offers_nothing(
    site_packages: SitePackages, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_packages.install("acme", GOOD)
    monkeypatch.setattr(sys, "path", [site_packages.folder, *sys.path[1:]])
    with pytest.raises(errors.UnknownProviderError):
        lmgateway.get_lm("acme", model="m")


@pytest.mark.filterwarnings("ignore:.*zip.*:ResourceWarning")
def test_a_damaged_zip_on_the_path_harms_nobody(
    site_packages: SitePackages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_packages.install("acme", GOOD)
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(b"PK\3\4 and no more")
    monkeypatch.setattr(sys, "path", [str(damaged), *sys.path])
    assert lmgateway.get_lm("acme", model="m")("hi") == ["good"]


class Raising:
    """A finder of another tool's, which fails."""

    @classmethod
    def find_spec(cls, *_: object) -> None:
        return None

    @classmethod
    def find_distributions(cls, *_: object) -> NoReturn:
        raise RuntimeError("not today")


def test_a_finder_that_raises_harms_nobody(
    site_packages: SitePackages, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_packages.install("acme", GOOD)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Raising])
    assert lmgateway.get_lm("acme", model="m")("hi") == ["good"]


# -- no metadata at all --------------------------------------------------------------------------

FROZEN = """
import importlib.metadata, sys
importlib.metadata.MetadataPathFinder.find_distributions = lambda *_, **__: iter(())
import lmgateway
"""


def frozen(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FROZEN + code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_metadata_our_own_providers_work() -> None:
    assert frozen("print(lmgateway.get_lm('echo')('hi'))") == "['hi']\n"
    assert frozen("print(lmgateway.providers())") == (
        "[Installed(name='echo', distribution='lmgateway-core', version='?'), "
        "Installed(name='openai', distribution='lmgateway-core', version='?')]\n"
    )


@pytest.mark.parametrize("provider", [*hosts()])
def test_without_metadata_a_request_can_be_made(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import MetadataPathFinder

    monkeypatch.setattr(MetadataPathFinder, "find_distributions", lambda *_, **__: iter(()))
    monkeypatch.setattr(sys, "path", [*sys.path, "/another/path"])
    user_agent.cache_clear()
    try:
        shown = lmgateway.get_lm(provider, model="m", api_key="k").preview("hi")
    finally:
        user_agent.cache_clear()
    assert shown["headers"]["User-Agent"].startswith("lmgateway/0 python/")


def test_without_metadata_the_command_tells_no_version() -> None:
    code = "from lmgateway.cli import main; sys.exit(main(['--version']))"
    assert frozen(code) == "lmgateway (its metadata are missing)\n"


def test_without_metadata_a_plugin_is_told_how_to_be_bundled() -> None:
    printed = frozen(
        "try: lmgateway.get_lm('anyscale', model='m')\n"
        "except lmgateway.UnknownProviderError as error: print(error)"
    )
    assert "--copy-metadata lmgateway-anyscale" in printed


def test_our_metadata_name_the_providers_that_are_there_without_them() -> None:
    assert PROJECT["entry-points"]["lmgateway.providers"] == registry.BUILT_IN
    assert PROJECT["name"] == OWN


@pytest.mark.parametrize(
    "said, shown",
    [
        pytest.param("Version: 1.2.3.dev4+g5a6b\n", "1.2.3.dev4+g5a6b", id="a local version"),
        pytest.param("version: 1.2\r\n", "1.2", id="CRLF"),
        pytest.param("Version: 1\n\tbeta\n", "1", id="folded"),
        pytest.param("Version: 1 2\n", "0", id="a space"),
        pytest.param("Version: \u00e9\n", "0", id="no ASCII"),
        pytest.param("Version:\n", "0", id="nothing"),
        pytest.param("", "0", id="none"),
    ],
)
def test_a_version_is_fit_for_a_header(
    site_packages: SitePackages, said: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_packages.leave("lmgateway_core-0.0.9.dist-info", METADATA=f"Name: lmgateway-core\n{said}")
    monkeypatch.setattr(sys, "path", [str(site_packages.folder)])
    user_agent.cache_clear()
    try:
        assert user_agent().startswith(f"lmgateway/{shown} python/")
    finally:
        user_agent.cache_clear()


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
            "lmgateway_compleat.*did you mean 'complete'",
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
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(): return Info(api=3)",
            errors.PluginVersionError,
            "version 3 .*speaks version 2 and all before: pip install -U lmgateway-core",
            id="a newer API",
        ),
        pytest.param(
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(): return Info(api=3)\n"
            "@hookimpl\ndef lmgateway_of_the_future(): ...",
            errors.PluginVersionError,
            "version 3",
            id="a newer API with hooks we do not know",
        ),
        pytest.param(
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(settings, model): return Info(api=3)\n"
            "@hookimpl\ndef lmgateway_of_the_future(): ...",
            errors.PluginVersionError,
            "version 3",
            id="a newer API whose info takes arguments",
        ),
        pytest.param(
            GOOD + "@hookimpl\ndef lmgateway_of_the_future(request): ...",
            errors.PluginContractError,
            r"lmgateway_of_the_future.*; .*@hookimpl\(optionalhook=True\)",
            id="a hook that nobody knows",
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
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(): return Info(portable=['acme'])",
            errors.PluginContractError,
            "Info.portable must be a frozenset of str, not list",
            id="formats in a list",
        ),
        pytest.param(
            INFO + GOOD + "@hookimpl\ndef lmgateway_info(): return Info(headers='x-id')",
            errors.PluginContractError,
            "Info.headers must be a frozenset of str, not str",
            id="headers that are one text",
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
    "code",
    [
        pytest.param("", id="no info"),
        pytest.param("@hookimpl\ndef lmgateway_info(): return Info()", id="no version"),
        pytest.param("@hookimpl\ndef lmgateway_info(): return Info(api=1)", id="an older API"),
        pytest.param("@hookimpl\ndef lmgateway_info(): return Info(api=0)", id="before the first"),
        pytest.param("@hookimpl\ndef lmgateway_info(): return Info(api=2)", id="this API"),
        pytest.param(
            "@hookimpl(optionalhook=True)\ndef lmgateway_of_the_future(asked, how=3): ...",
            id="a hook of a newer API",
        ),
        pytest.param(
            "@hookimpl(optionalhook=True)\ndef lmgateway_info(): return Info(api=2)",
            id="a hook that is known, marked as optional",
        ),
        pytest.param(
            "@hookimpl\ndef lmgateway_info(settings): return Info(api=2)", id="info of settings"
        ),
        pytest.param(
            "@hookimpl\ndef lmgateway_info(model): return Info(api=2)", id="info of a model"
        ),
        pytest.param(
            "@hookimpl\ndef lmgateway_info(model, settings): return Info(api=2)", id="info of both"
        ),
    ],
)
def test_a_plugin_of_this_api_or_an_older_one_loads(site_packages: SitePackages, code: str) -> None:
    site_packages.install("fine", INFO + GOOD + code)
    assert lmgateway.get_lm("fine", model="m")("hi") == ["good"]


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
