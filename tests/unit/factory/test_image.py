"""``mlretrain image``: what goes into an image, what never does, and what is told when it cannot be built."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlretrain.errors import ConfigError
from mlretrain_factory.cli import main
from mlretrain_factory.image import default_base, recipe_of, write_context

PIPELINE = """\
version: 1
pipeline: {name}
stack: local
data:
  training: {{uri: file:///data/rows.parquet}}
  target: y
train:
  entrypoint: shop.train:train
  environment: {{requirements: [{package}]}}
evaluate: {{metrics: [rmse]}}
promote: {{gates: [{{metric: rmse, max: 1}}]}}
"""
ENGINE = """\
#!/bin/sh
echo "$@" >> {log}
case "$1" in
  info) echo "daemon is down" >&2; exit {info} ;;
  build) exit {build} ;;
  push) exit {push} ;;
  image) exit {image} ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    contents = {
        "pyproject.toml": "",
        "shop/__init__.py": "",
        "shop/train.py": "def train(ctx): ...",
        "shop/words.txt": "a",
        "stacks/local.yaml": "version: 1\nartifacts_uri: file:///artifacts\n",
        "daily/sales.pipeline.yaml": PIPELINE.format(name="sales", package="lightgbm==4.6"),
        "daily/stock.pipeline.yaml": PIPELINE.format(name="stock", package="xgboost>=3"),
        ".dockerignore": "# large\nlarge/\n!large/small.txt\n",
        ".env": "PASSWORD=hunter2",
        "shop/.env.production": "PASSWORD=hunter2",
        "shop/server.pem": "-----BEGIN PRIVATE KEY-----",
        ".aws/credentials": "hunter2",
        ".git/config": "hunter2",
        "shop/__pycache__/train.cpython-311.pyc": "",
        ".mypy_cache/x": "",
    }
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "shop" / "train.py").chmod(0o600)
    (root / "linked").symlink_to("/etc")
    return root


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only ``PATH`` for engines."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(folder: Path, name: str, **status: int) -> Path:
    log = folder / f"{name}.log"
    log.touch()
    answers = {"info": 0, "build": 0, "push": 0, "image": 0, **status}
    # The script's own words are the shell's, so it needs no PATH.
    (folder / name).write_text(ENGINE.format(log=log, **answers))
    (folder / name).chmod(0o755)
    return log


def build(project: Path, *more: str) -> int:
    return main(["image", str(project / "daily/sales.pipeline.yaml"), "--tag", "r.example/sales:1", *more])


def test_an_image_holds_the_code_and_the_packages_of_its_pipelines(project: Path, tmp_path: Path) -> None:
    recipe = recipe_of(sorted((project / "daily").iterdir()), None, "runtime:1")
    assert recipe.code == project
    assert recipe.requirements == ("lightgbm==4.6", "xgboost>=3")
    write_context(recipe, tmp_path)
    names = {str(path.relative_to(tmp_path / "code")) for path in (tmp_path / "code").rglob("*.*")}
    assert {"shop/train.py", "shop/words.txt", "daily/sales.pipeline.yaml"} <= names
    assert (tmp_path / "requirements.txt").read_text() == "lightgbm==4.6\nxgboost>=3\n"
    assert (tmp_path / ".dockerignore").read_text() == "code/large/\n!code/large/small.txt\n"
    assert (tmp_path / "code/shop/train.py").stat().st_mode & 0o777 == 0o644
    assert "\nUSER 10001\n" in (tmp_path / "Dockerfile").read_text()


def test_no_secret_gets_into_an_image(project: Path, tmp_path: Path) -> None:
    recipe = recipe_of([project / "daily/sales.pipeline.yaml"], None, "runtime:1")
    told = {str(path) for path in recipe.left_out}
    assert told == {".env", ".aws", "linked", "shop/.env.production", "shop/server.pem"}
    write_context(recipe, tmp_path)
    copied = [path for path in tmp_path.rglob("code/**/*") if path.is_file()]
    assert copied
    assert not [path for path in copied if "hunter2" in path.read_text() or "PRIVATE" in path.read_text()]


def test_a_folder_of_code_needs_no_pipeline(project: Path) -> None:
    (project / "requirements.txt").write_text("# ours\npandas\n\nshap==0.49\n")
    recipe = recipe_of([], project, "runtime:1")
    assert recipe.requirements == ("pandas", "shap==0.49")


def test_code_that_is_not_there(project: Path) -> None:
    pipeline = project / "daily/sales.pipeline.yaml"
    (project / "empty").mkdir()
    with pytest.raises(ConfigError, match="no Python file in"):
        recipe_of([], project / "empty", "runtime:1")
    with pytest.raises(ConfigError, match="pipeline files, or --code FOLDER"):
        recipe_of([], None, "runtime:1")
    pipeline.write_text(pipeline.read_text().replace("shop.train:", "shpo.train:"))
    with pytest.raises(ConfigError, match=r"sales\.pipeline\.yaml: no code found for `shpo\.train:train`"):
        recipe_of([pipeline], None, "runtime:1")


def test_code_in_several_folders_is_several_images(project: Path) -> None:
    (project / "daily" / "shop").mkdir()
    (project / "weekly").mkdir()
    (project / "daily" / "sales.pipeline.yaml").rename(project / "weekly" / "sales.pipeline.yaml")
    with pytest.raises(ConfigError, match="in several folders"):
        recipe_of([*project.glob("*/*.pipeline.yaml")], None, "runtime:1")


def test_it_is_built_and_pushed(project: Path, engines: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = install(engines, "docker")
    assert build(project, "--push") == 0
    lines = log.read_text().splitlines()
    assert lines[0] == "info"
    assert lines[1].startswith(f"build --build-arg BASE={default_base()} --tag r.example/sales:1 /")
    assert lines[2] == "push r.example/sales:1"
    out = capfd.readouterr().out
    assert "packages      lightgbm==4.6\n" in out
    assert "left out      .aws, .env" in out
    assert out.endswith("r.example/sales:1 is pushed. Stacks use it by `image: r.example/sales:1`.\n")
    assert not Path(lines[1].split()[-1]).exists()


def test_a_dry_run_needs_no_engine(project: Path, engines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert os.listdir(engines) == []
    assert build(project, "--dry-run", "--base", "own:2") == 0
    out = capsys.readouterr().out
    assert "FROM ${BASE}" in out
    assert out.endswith("docker build --build-arg BASE=own:2 --tag r.example/sales:1 CONTEXT\n")


def test_the_engine_that_answers_is_used(project: Path, engines: Path) -> None:
    install(engines, "docker", info=1)
    log = install(engines, "podman")
    assert build(project) == 0
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["info", "build"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (None, "no container engine (allowed: docker, podman). Install one"),
        ({"info": 1}, "the container engine does not answer (found docker: daemon is down). Start it"),
        ({"build": 1}, "the image could not be built. See what docker says above."),
        ({"build": 1, "image": 1}, f"found no base image {default_base()} here"),
        ({"push": 1}, "the image could not be pushed (found r.example/sales:1)"),
    ],
)
def test_what_goes_wrong_is_told_with_its_remedy(
    status: dict[str, int] | None,
    message: str,
    project: Path,
    engines: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if status is not None:
        install(engines, "docker", **status)
    assert build(project, "--push") == 13
    assert message in capsys.readouterr().err


def test_a_name_that_no_registry_takes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "--code", str(project), "--tag", "Sales 1"]) == 13
    assert "not the name of an image (found 'Sales 1')" in capsys.readouterr().err
