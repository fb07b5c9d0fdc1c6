"""Virtual environments for local jobs: installed once, by whoever comes first; a failure leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest

from mlretrain.errors import ConfigError, TransientError
from mlretrain.ports import JobSpec
from mlretrain_provider.backends import environment, own_wheel
from mlretrain_provider.backends.environment import UNUSED_S, Environments
from mlretrain_provider.backends.local import LocalBackend

# An installer that knows how to unpack our own wheel and nothing else, and notes what it was asked for.
UV = """#!/bin/sh
here=$(dirname "$0")
for last; do :; done
case "$1" in
venv) exec {python} -m venv --without-pip "$last" ;;
pip)
  cat "$last" >> "$here/asked"; echo >> "$here/asked"
  sleep 0.2
  [ -e "$here/hangs" ] && touch "$here/hanging" && exec sleep 60
  if grep -q broken "$last"; then
    echo "Using https://me:hunter2@index.example/simple $INDEX_TOKEN"; echo "no solution"; exit 1
  fi
  if grep -q away "$last"; then echo "error sending request for url (https://index.example)"; exit 2; fi
  folder=$(dirname "$last")
  exec {python} -m zipfile -e "$folder"/wheel/*.whl "$folder"/lib/python*/site-packages ;;
esac
"""


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installer that is first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "uv").write_text(UV.format(python=sys.executable))
    (folder / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def environments(tmp_path: Path, uv: Path) -> Environments:
    return Environments(tmp_path / "environments")


def asked(uv: Path) -> list[str]:
    return (uv / "asked").read_text().splitlines() if (uv / "asked").exists() else []


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def folders(tmp_path: Path) -> list[Path]:
    return [each for each in (tmp_path / "environments").iterdir() if each.is_dir() and not each.is_symlink()]


def test_an_environment_has_the_kernel_and_not_the_workers_packages(
    environments: Environments, uv: Path
) -> None:
    python = environments.python(("b==2", "a"))
    own = asked(uv)
    assert own[:2] == ["a", "b==2"]
    assert own[2].startswith("airflow-provider-mlretrain[mlflow] @ file:///")
    assert own[3].startswith("boto3>=")
    says = "import mlretrain.runtime.runner, importlib.util as u, importlib.metadata as m;"
    says += "print(mlretrain.__file__, u.find_spec('airflow'), m.version('airflow-provider-mlretrain'))"
    told = subprocess.run([python, "-P", "-c", says], capture_output=True, text=True, check=True)
    assert told.stdout.startswith(str(python.parents[1]))
    assert told.stdout.split()[1:] == ["None", version(own_wheel.DISTRIBUTION)]


def test_the_same_requirements_are_installed_once(environments: Environments, uv: Path) -> None:
    first = environments.python(("a", "b"))
    assert environments.python(("b ", "a", "a")) == first
    assert environments.python(("c",)) != first
    assert len([line for line in asked(uv) if "mlretrain" in line]) == 2


def test_another_version_of_our_own_files_is_another_environment(
    environments: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = environments.python(("a",))
    monkeypatch.setattr(environment, "source_digest", lambda: "another")
    assert environments.python(("a",)) != first


def test_many_who_ask_at_once_share_one_installation(tmp_path: Path, uv: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        found = set(pool.map(lambda _: Environments(tmp_path / "environments").python(("a",)), range(6)))
    assert len(found) == 1
    assert asked(uv).count("a") == 1


def test_an_installer_that_fails_is_quoted_without_secrets_and_leaves_nothing(
    tmp_path: Path, environments: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INDEX_TOKEN", "tok-123456")
    with pytest.raises(ConfigError) as caught:
        environments.python(("broken==1",))
    text = str(caught.value)
    assert "the requirements cannot be installed (found broken==1)" in text
    assert text.endswith("no solution")
    assert "https://***@index.example" in text
    assert "hunter2" not in text
    assert "tok-123456" not in text
    assert folders(tmp_path) == []


def test_an_index_that_is_away_is_worth_a_retry(environments: Environments) -> None:
    with pytest.raises(TransientError, match="error sending request"):
        environments.python(("away",))


@pytest.mark.parametrize("requirement", ["--index-url=https://x", "", "a\n-r b", "-e ."])
def test_what_is_no_package_is_refused(environments: Environments, requirement: str) -> None:
    with pytest.raises(ConfigError, match="not a package"):
        environments.python((requirement,))


def test_a_worker_that_dies_half_way_leaves_nothing_that_is_used(tmp_path: Path, uv: Path) -> None:
    (uv / "hangs").touch()
    asks = (
        "import sys; from mlretrain_provider.backends.environment import Environments;"
        f"print(Environments({str(tmp_path / 'environments')!r}).python(('a',)))"
    )
    with subprocess.Popen([sys.executable, "-c", asks], start_new_session=True) as worker:
        until((uv / "hanging").exists)
        os.killpg(worker.pid, signal.SIGKILL)
    (half,) = folders(tmp_path)
    (uv / "hangs").unlink()
    python = Environments(tmp_path / "environments").python(("a",))
    assert python.exists()
    assert folders(tmp_path) == [python.parents[1]]
    assert half != python.parents[1]


def test_what_no_job_uses_for_a_month_is_removed(tmp_path: Path, environments: Environments) -> None:
    old = environments.python(("a",))
    kept = environments.python(("b",))
    links = [each for each in (tmp_path / "environments").iterdir() if each.is_symlink()]
    (link,) = [each for each in links if each.resolve() == old.parents[1]]
    long_ago = time.time() - UNUSED_S - 60
    os.utime(link, (long_ago, long_ago), follow_symlinks=False)
    environments.python(("c",))
    assert not old.exists()
    assert kept.exists()
    assert environments.python(("a",)).exists()


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path, uv: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="no place for virtual environments"):
        Environments(tmp_path / "file" / "environments").python(("a",))


def test_a_job_runs_in_its_environment(tmp_path: Path, uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    jobs = LocalBackend(
        tmp_path / "jobs",
        environments_dir=tmp_path / "environments",
        command=("python", "-P", "-c", "import os, sys; print(sys.prefix, os.environ.get('PYTHONPATH'))"),
    )
    handle = jobs.submit(JobSpec(name="j", request_uri="file:///r.json", requirements=("a",)))
    until(lambda: jobs.status(handle).ended)
    (folder,) = folders(tmp_path)
    assert jobs.logs(handle, "")[0] == f"{folder} None\n"


def test_the_wheel_is_the_same_however_we_are_installed(tmp_path: Path) -> None:
    wheel = own_wheel.build_wheel(tmp_path / "wheel")
    target = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, target], check=True)
    says = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        "import mlretrain; from mlretrain_provider.backends import own_wheel;"
        "assert own_wheel.__file__.startswith(sys.argv[1]), own_wheel.__file__;"
        "print(own_wheel.source_digest(), own_wheel.build_wheel(Path(sys.argv[1]) / 'again').name)"
    )
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", says, target], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [own_wheel.source_digest(), wheel.name]
