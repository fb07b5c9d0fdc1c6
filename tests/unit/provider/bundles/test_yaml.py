"""The mirror that YamlDagBundle shows Airflow."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion
from airflow.dag_processing.bundles.local import LocalDagBundle
from airflow.utils.file import list_py_file_paths

from mlretrain.errors import ConfigError
from mlretrain_provider.bundles.yaml import YamlDagBundle, mirror

pytestmark = pytest.mark.airflow

Make = Callable[..., YamlDagBundle]


class VersionedBundle(BaseDagBundle):
    """A folder for each version, as Git's bundle has a worktree."""

    supports_versioning = True

    def __init__(self, *, root: str, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.root = Path(root)

    @property
    def path(self) -> Path:
        return self.root / (self.version or "v2")

    def get_current_version(self) -> BundleVersion:
        return BundleVersion(version=self.version or "v2")

    def refresh(self) -> None:
        """Nothing."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "team").mkdir(parents=True)
    (folder / "flights.pipeline.yaml").write_text("version: 1\n")
    (folder / "team" / "churn.pipeline.yml").write_text("version: 1\n")
    (folder / "team" / "train.py").write_text("def train(ctx): ...\n")
    (folder / "by_hand.py").write_text("from airflow.sdk import DAG\n")
    return folder


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "storage"))
    return lambda **kwargs: YamlDagBundle(name="pipelines", **kwargs)


def shown(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or path.is_file()
    )


EVERYTHING = [
    "by_hand.py",
    "flights.pipeline.yaml",
    "flights.pipeline.yaml.py",
    "team/churn.pipeline.yml",
    "team/churn.pipeline.yml.py",
    "team/train.py",
]


def test_each_pipeline_gets_a_stub(source: Path, make: Make) -> None:
    bundle = make(path=str(source))
    bundle.initialize()

    assert shown(bundle.path) == EVERYTHING
    stub = (bundle.path / "flights.pipeline.yaml.py").read_text()
    assert "flights.pipeline.yaml" in stub
    assert (bundle.path / "team" / "train.py").resolve() == source / "team" / "train.py"


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Airflow's own use of pathspec
def test_airflow_lists_the_stubs(source: Path, make: Make) -> None:
    (source / ".airflowignore").write_text("team/\n")
    bundle = make(path=str(source))
    bundle.initialize()

    found = {str(Path(each).relative_to(bundle.path)) for each in list_py_file_paths(bundle.path)}

    assert found == {"by_hand.py", "flights.pipeline.yaml.py"}


def test_a_stub_loads_the_yaml_that_people_wrote(
    source: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []

    def load(path: Path) -> list[object]:
        loaded.append(path)
        return []

    monkeypatch.setattr("mlretrain_factory.to_airflow.load", load)
    bundle = make(path=str(source))
    bundle.initialize()

    stub = bundle.path / "flights.pipeline.yaml.py"
    exec(compile(stub.read_text(), stub, "exec"), {"__file__": str(stub)})

    assert loaded == [source / "flights.pipeline.yaml"]


def test_nothing_changes_where_nothing_did(source: Path, make: Make) -> None:
    bundle = make(path=str(source))
    bundle.initialize()
    before = {path: path.lstat() for path in bundle.path.rglob("*")}

    bundle.refresh()

    assert {path: path.lstat() for path in bundle.path.rglob("*")} == before


def test_what_is_new_comes_and_what_is_gone_goes(source: Path, make: Make) -> None:
    bundle = make(path=str(source))
    bundle.initialize()
    (source / "new.pipeline.yaml").write_text("")
    for path in (source / "team").iterdir():
        path.unlink()
    (source / "team").rmdir()
    (bundle.path / "flights.pipeline.yaml.py").write_text("broken")

    bundle.refresh()

    assert shown(bundle.path) == [
        "by_hand.py",
        "flights.pipeline.yaml",
        "flights.pipeline.yaml.py",
        "new.pipeline.yaml",
        "new.pipeline.yaml.py",
    ]
    assert not (bundle.path / "team").exists()
    assert "broken" not in (bundle.path / "flights.pipeline.yaml.py").read_text()


def test_a_folder_becomes_a_file_and_back(source: Path, make: Make) -> None:
    bundle = make(path=str(source))
    bundle.initialize()
    (source / "team").rename(source / "other")
    (source / "team").write_text("a file")
    bundle.refresh()
    assert (bundle.path / "team").read_text() == "a file"

    (source / "team").unlink()
    (source / "other").rename(source / "team")
    bundle.refresh()
    assert shown(bundle.path) == EVERYTHING


def test_what_is_hidden_cached_or_a_loader_is_left_out(source: Path, make: Make) -> None:
    for folder in (".git", "__pycache__"):
        (source / folder).mkdir()
        (source / folder / "a.py").write_text("")
    (source / ".env").write_text("SECRET=1")
    (source / "loader.py").write_text(
        "from mlretrain_factory import load_airflow_dags\nload_airflow_dags(globals())\n"
    )
    bundle = make(path=str(source))
    bundle.initialize()

    assert shown(bundle.path) == EVERYTHING


def test_linked_folders_stay_links(source: Path, make: Make, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "features.py").write_text("")
    (source / "shared").symlink_to(tmp_path / "shared")
    bundle = make(path=str(source))
    bundle.initialize()
    bundle.refresh()

    assert os.readlink(bundle.path / "shared") == str(source / "shared")
    assert (bundle.path / "shared" / "features.py").exists()


def test_many_processes_refresh_at_once(source: Path, make: Make) -> None:
    bundles = [make(path=str(source)) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(bundle.initialize) for bundle in bundles]:
            done.result()

    assert shown(bundles[0].path) == EVERYTHING


def test_bundles_of_one_name_on_one_machine_do_not_mix(source: Path, make: Make, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, other = make(path=str(source)), make(path=str(tmp_path / "other"))
    one.initialize()
    other.initialize()

    assert (shown(one.path), shown(other.path)) == (EVERYTHING, [])


def test_another_bundle_may_be_the_source(make: Make, tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / f"{version}.pipeline.yaml").write_text("")
    inner = {"classpath": f"{__name__}:VersionedBundle", "kwargs": {"root": str(tmp_path)}}
    latest, old = make(bundle=inner), make(bundle=inner, version="v1")
    for bundle in (latest, old):
        bundle.initialize()

    assert latest.supports_versioning
    assert latest.get_current_version() == BundleVersion(version="v2")
    assert shown(latest.path) == ["v2.pipeline.yaml", "v2.pipeline.yaml.py"]
    assert shown(old.path) == ["v1.pipeline.yaml", "v1.pipeline.yaml.py"]


def test_the_dags_folder_is_the_default(make: Make) -> None:
    assert isinstance(make().source, LocalDagBundle)
    assert not make().supports_versioning


def test_two_sources_are_one_too_many(make: Make) -> None:
    with pytest.raises(ConfigError, match="one of them"):
        make(path="/dags", bundle={"classpath": "x"})


def test_a_reader_never_sees_half_a_stub(source: Path, tmp_path: Path) -> None:
    mirror(source, tmp_path / "mirror")

    assert not [path for path in (tmp_path / "mirror").rglob("*") if path.name.startswith(".")]
