"""Two versions of this project, each installed in an environment of its own.

Both are built from a copy of their files and installed in the same way, beside links to whatever
else this interpreter has: they differ in nothing but their own code. Nothing is written into the
tree, and git is only read.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from environments import ROOT

__all__ = ["Version", "VersionError", "both"]

_PIP = "install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index"


class VersionError(Exception):
    """A version cannot be had."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version, ready to run.

    Attributes:
        name: ``old`` or ``new``.
        said: Which it is, for people.
        folder: All that belongs to it.
    """

    name: str
    said: str
    folder: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "venv" / "bin" / "python")

    @property
    def empty(self) -> Path:
        """A folder to run in, with no configuration in it or above it."""
        return self.folder / "empty"

    @property
    def environment(self) -> Mapping[str, str]:
        """Its variables: nobody's settings, no other code, and a cache of its own."""
        left = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LMGATEWAY_", "PYTHON"))
        }
        return {**left, "LMGATEWAY_CACHE_DIR": str(self.folder / "cache")}


@contextmanager
def both(revision: str) -> Iterator[tuple[Version, Version]]:
    """An old version and the working tree, until the end of the block.

    Args:
        revision: A revision of this repository, or the folder of another checkout.

    Raises:
        VersionError: There is no such version, or one of the two cannot be installed.
    """
    with TemporaryDirectory(prefix="lmgateway-speed-", ignore_cleanup_errors=True) as folder:
        old, new = Path(folder, "old"), Path(folder, "new")
        said = _check_out(revision, old / "tree")
        _copy(ROOT, new / "tree")
        yield (
            _installed("old", said, old),
            _installed("new", f"the working tree, on {_head(ROOT)}", new),
        )


# -- files ---------------------------------------------------------------------------------------


def _check_out(revision: str, tree: Path) -> str:
    """Write a version's files; says which it is."""
    try:
        asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        commit = _git(ROOT, *asked).decode().strip()
    except VersionError:
        if not Path(revision).is_dir():
            raise VersionError(f"{revision!r} is neither a commit nor a folder") from None
        _copy(Path(revision), tree)
        return f"{revision}, on {_head(Path(revision))}"
    # An archive leaves the repository alone; a worktree would be entered in it.
    with ZipFile(io.BytesIO(_git(ROOT, "archive", "--format=zip", commit))) as archive:
        archive.extractall(tree)
    return _head(ROOT, commit)


def _copy(checkout: Path, tree: Path) -> None:
    """The files of a checkout as they are, but for those that git ignores."""
    listed = _git(checkout, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.decode().split("\0")):
        if (checkout / name).is_file():  # it may have been deleted
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkout / name, tree / name)


def _head(checkout: Path, commit: str = "HEAD") -> str:
    return _git(checkout, "log", "-1", "--format=%h %<(64,trunc)%s", commit).decode().strip()


def _git(checkout: Path, *arguments: str) -> bytes:
    return _run(["git", "-C", str(checkout), *arguments])


def _run(command: list[str]) -> bytes:
    """What a command prints."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise VersionError(f"{' '.join(command)} failed:\n{said}")
    return done.stdout


# -- environments --------------------------------------------------------------------------------


def _installed(name: str, said: str, folder: Path) -> Version:
    """Install what is in ``folder/tree``."""
    print(f"installing the {name} version: {said}", file=sys.stderr)
    version = Version(name, said, folder)
    version.empty.mkdir()
    place = folder / "venv"
    venv.create(place, symlinks=True)
    paths = sysconfig.get_paths("venv", vars={"base": str(place), "platbase": str(place)})
    site = Path(paths["purelib"])
    pip = [sys.executable, "-m", "pip", *_PIP.split(), "--target", str(site)]
    _run([*pip, *map(str, _projects(folder / "tree"))])
    _link(site)
    return version


def _projects(tree: Path) -> list[Path]:
    """The folders of this project's distributions, whatever a version calls them."""
    found = []
    for depth in ("", "*/", "*/*/"):
        for file in sorted(tree.glob(f"{depth}pyproject.toml")):
            project = tomllib.loads(file.read_text()).get("project", {})
            if project.get("name", "").startswith("lmgateway"):
                found.append(file.parent)
    if not found:
        raise VersionError(f"{tree} holds no distribution of lmgateway")
    return found


def _link(site: Path) -> None:
    """Make everything else that is installed here importable from there too."""
    for here in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(here).iterdir():
            # The .pth files are those of editable installs. Of what is here of this project
            # nothing may be found: a distribution that is called otherwise by now would bring
            # every provider a second time.
            if path.suffix == ".pth" or _brings_providers(path):
                continue
            if not (site / path.name).exists():
                (site / path.name).symlink_to(path)


def _brings_providers(path: Path) -> bool:
    """Whether this is the code or the metadata of lmgateway, or of a provider."""
    points = path / "entry_points.txt"
    ours = path.name.startswith(("lmgateway", "__editable__"))
    return ours or (points.is_file() and "[lmgateway.providers]" in points.read_text())
