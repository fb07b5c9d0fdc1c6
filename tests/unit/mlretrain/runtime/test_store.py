from __future__ import annotations

from pathlib import Path

import pytest

from mlretrain.errors import ConfigError
from mlretrain.runtime.store import FileStore, file_uri, join_uri, local_path, open_store, read_uri, split_uri


@pytest.mark.parametrize("name", ["plain", "with space", "100%25", "ü#?&", "a%20b"])
def test_a_path_survives_its_uri(name: str) -> None:
    path = Path("/data") / name
    assert local_path(file_uri(path)) == path


def test_an_encoded_uri_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "a b.json").write_bytes(b"x")
    assert read_uri((tmp_path / "a b.json").as_uri()) == b"x"


def test_a_plain_path_is_a_folder_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("artifacts").root_uri == f"file://{tmp_path}/artifacts"


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://b/p/x.json", ("s3://b/p", "x.json")),
        ("s3://b/x%20y", ("s3://b", "x%20y")),
        ("file:///d/x%20y", ("file:///d", "x y")),
        ("/d/x", ("/d", "x")),
    ],
)
def test_an_object_uri_is_a_store_and_a_path(uri: str, parts: tuple[str, str]) -> None:
    assert split_uri(uri) == parts


def test_uris_join() -> None:
    assert join_uri("s3://b/p/", "a/b%") == "s3://b/p/a/b%"
    assert join_uri("file:///d", "a/b%") == "file:///d/a/b%25"


@pytest.mark.parametrize("uri", ["gs://bucket/x", "http://host/x", "file://host/x", "s3://"])
def test_a_store_that_cannot_be_opened(uri: str) -> None:
    with pytest.raises(ConfigError):
        open_store(uri)


@pytest.mark.parametrize("uri", ["s3://bucket", "file:///", "name"])
def test_what_names_no_object(uri: str) -> None:
    with pytest.raises(ConfigError, match="not the URI of an object"):
        split_uri(uri)


def test_an_interrupted_write_leaves_the_old_object_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path)
    store.write("a/b", b"old")

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlretrain.runtime.store.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.write("a/b", b"new")
    assert store.read("a/b") == b"old"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_what_a_killed_writer_left_is_not_listed(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.write("a/b", b"x")
    (tmp_path / "a/.tmp-0123").write_bytes(b"half")
    assert store.list("a/") == ["a/b"]
