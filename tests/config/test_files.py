from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from lmgateway import ConfigError, get_lm
from lmgateway._config import files
from lmgateway._config.files import find, read, user_file
from lmgateway._config.names import configuration

Write = Callable[..., Path]

NAMED = 'default = "a"\n[models.a]\nprovider = "echo"\n'
OURS = (
    f'[project]\nname = "x"\n[tool.lmgateway]\n{NAMED.replace("[models", "[tool.lmgateway.models")}'
)


def test_no_file_is_found_where_there_is_none() -> None:
    assert find() is None


def test_the_file_in_the_working_directory_is_found(write: Write) -> None:
    path = write(NAMED)

    assert find().path == str(path)


def test_a_file_further_up_is_found(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(NAMED)
    deep = path.parent / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)

    assert find().path == str(path)


def test_the_nearest_file_wins_and_nothing_is_merged(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(NAMED)
    write('[models.b]\nprovider = "echo"\n', "below/lmgateway.toml")
    monkeypatch.chdir(Path.cwd() / "below")

    assert set(configuration().models) == {"b"}
    assert configuration().default is None


def test_the_search_ends_at_the_root_of_a_repository(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(NAMED)
    root = Path.cwd() / "repository"
    (root / ".git").mkdir(parents=True)
    monkeypatch.chdir(root)

    assert find() is None


def test_the_search_ends_at_home(tmp_path: Path) -> None:
    (tmp_path / "lmgateway.toml").write_text(NAMED)  # above home, which is the working directory

    assert find() is None


def test_in_one_folder_our_own_file_goes_before_pyproject(write: Write) -> None:
    write(OURS, "pyproject.toml")
    path = write(NAMED)

    assert find().path == str(path)


def test_pyproject_counts_with_our_table_in_it(write: Write) -> None:
    path = write(OURS, "pyproject.toml")

    assert find().path == str(path)
    assert configuration().models["a"].place == f"{path}:5"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('[project]\nname = "x"\n', id="of-another"),
        pytest.param('[project]\nname = "lmgateway-x"\n', id="that-names-us"),
        pytest.param("# lmgateway\n[project\n", id="malformed-and-not-ours"),
        pytest.param('text = """\n[tool.lmgateway]\n"""\ntool = 3\n', id="our-header-in-a-text"),
    ],
)
def test_a_pyproject_without_our_table_is_passed_over(write: Write, text: str) -> None:
    write(text, "pyproject.toml")

    assert find() is None


def test_a_pyproject_that_may_not_be_read_is_passed_over(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(OURS, "pyproject.toml")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "open", refuse, raising=False)  # root may read everything
    with pytest.warns(UserWarning, match="was not read: Permission denied") as warned:
        assert get_lm("echo")("hi") == ["hi"]
    assert str(path) in str(warned[0].message)


def test_the_users_own_file_comes_last(write: Write) -> None:
    path = Path(user_file())
    path.parent.mkdir(parents=True)
    path.write_text(NAMED)

    assert find().path == str(path)
    assert find(write(NAMED)).path != str(path)


def test_the_variable_goes_before_what_lies_around(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(NAMED)
    other = write(NAMED, "other.toml")
    monkeypatch.setenv("LMGATEWAY_CONFIG", str(other))

    assert find().path == str(other)


def test_the_argument_goes_before_the_variable(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMGATEWAY_CONFIG", str(write(NAMED, "other.toml")))
    mine = write('default = "mine"\n[models.mine]\nprovider = "echo"\n', "mine.toml")

    assert get_lm(config=mine).provider == "echo"
    assert find("mine.toml").path == str(mine)


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_a_named_file_that_is_not_there_is_an_error(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "variable":
        monkeypatch.setenv("LMGATEWAY_CONFIG", "gone.toml")

    with pytest.raises(ConfigError, match=r"gone\.toml, which is no file"):
        get_lm("echo", config="gone.toml" if way == "argument" else None)


def test_a_named_pyproject_without_our_table_is_an_error(write: Write) -> None:
    path = write('[project]\nname = "x"\n', "pyproject.toml")

    with pytest.raises(ConfigError, match=r"has no table \[tool.lmgateway\]"):
        get_lm("echo", config=path)


def test_a_file_is_read_once_until_it_changes(write: Write) -> None:
    path = write(NAMED)
    first = read(str(path))

    assert read(str(path)) is first
    os.utime(path, ns=(1, 1))
    assert read(str(path)) is not first


def test_an_edit_shows_in_the_same_process(write: Write) -> None:
    write(NAMED)
    get_lm()
    write(NAMED.replace("echo", "openai") + 'model = "m"\n')

    assert get_lm().provider == "openai"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_an_error(write: Write) -> None:
    write(NAMED).chmod(0)

    with pytest.raises(ConfigError, match="cannot be read"):
        get_lm("echo")


def test_a_working_directory_that_was_deleted_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert get_lm("echo")("hi") == ["hi"]


LINES = """\
# a comment

default = "a"
[models.a]
provider = "echo"
params = { temperature = 0 }
# another
[ models . "b c" ]
alias = '''
a'''
fallbacks = [
  "x", # with [brackets]
]
"""


@pytest.mark.parametrize(
    "keys, line",
    [
        (("default",), 3),
        (("models", "a"), 4),
        (("models", "a", "provider"), 5),
        (("models", "b c"), 8),
        (("models", "b c", "alias"), 9),
        (("models", "b c", "fallbacks"), 11),
        (("models", "a", "unheard", "of"), 4),
    ],
)
def test_every_key_knows_its_line(write: Write, keys: tuple[str, ...], line: int) -> None:
    path = write(LINES)

    assert read(str(path)).place(*keys) == f"{path}:{line}"


TEXTS = """\
[models]
a.system = \"\"\"
[models.x] # "
\\\"\"\" still it
ends in two quotes\"\"\"\"\"
a.provider = 'no\\'
b . provider = "\\"["
'c#'.alias = ''
d = { provider = "}", fallbacks = [ # ]
  '''
]''', "]", [
  ]
] }
[models.e]
"""


@pytest.mark.parametrize(
    "keys, line",
    [
        (("models", "a", "system"), 2),
        (("models", "a", "provider"), 6),
        (("models", "b", "provider"), 7),
        (("models", "c#", "alias"), 8),
        (("models", "d", "fallbacks"), 9),
        (("models", "e"), 14),
        (("models", "x"), 14),  # there is none: the last that speaks of models
    ],
)
def test_texts_and_brackets_do_not_move_a_line(
    write: Write, keys: tuple[str, ...], line: int
) -> None:
    path = write(TEXTS)

    assert read(str(path)).place(*keys) == f"{path}:{line}"


@pytest.mark.parametrize(
    "name, text, often",
    [
        ("lmgateway.toml", 'system = """\n' + "Be brief.\n" * 2000 + '"""\n', 2),
        ("lmgateway.toml", "x = [\n" + '  "a",\n' * 2000 + "]\n", 2),
        ("pyproject.toml", "[tool.mypy]\nx = [\n" + '  "a",\n' * 2000 + "]\n", 1),
    ],
    ids=["text", "list", "list-of-another-tool"],
)
def test_long_values_are_read_a_few_times_at_most(
    write: Write, monkeypatch: pytest.MonkeyPatch, name: str, text: str, often: int
) -> None:
    given = []
    loads = tomllib.loads
    monkeypatch.setattr(tomllib, "loads", lambda each: given.append(len(each)) or loads(each))

    ours = '[tool.lmgateway]\ndefault = "echo"\n' if name == "pyproject.toml" else ""
    assert read(str(write(text + ours, name))) is not None
    assert sum(given) < often * len(text) + 200
