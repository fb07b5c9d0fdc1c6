"""``mlretrain image``: the image of a pipeline's jobs, made of the runtime, its packages and its code."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import version
from importlib.resources import files
from os import walk
from pathlib import Path
from tempfile import TemporaryDirectory

from mlretrain.errors import ConfigError
from mlretrain_factory.inheritance import search_path
from mlretrain_factory.loader import load_source
from mlretrain_factory.spec.backend import is_image

ENGINES = ("docker", "podman")
SECRETS = (
    ".env",
    ".env.*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "id_rsa*",
    "id_ed25519*",
    ".netrc",
    ".pypirc",
    ".aws",
    ".ssh",
    ".kube",
    ".docker",
    "kubeconfig*",
    "airflow.cfg",
)
CLUTTER = (
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "venv",
    ".tox",
    ".nox",
    "__pycache__",
    "*.pyc",
    ".*_cache",
    ".ipynb_checkpoints",
    "node_modules",
    ".DS_Store",
)
"""What is never copied into an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What goes into an image.

    :param code: the folder that becomes ``/app``.
    :param paths: files of it, relative to it.
    :param left_out: what looks like a secret, and links to folders, which are not copied.
    """

    base: str
    code: Path
    paths: tuple[Path, ...]
    left_out: tuple[Path, ...]
    requirements: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mlretrain image``."""
    parser.add_argument("pipeline", nargs="*", type=Path, help="pipeline files: their code and packages")
    parser.add_argument("--code", type=Path, help="the folder of the code, instead of the pipelines' own")
    parser.add_argument("--tag", required=True, help="name of the image: registry.example/team/flights:3")
    parser.add_argument("--base", default=default_base(), help="a runtime image (%(default)s)")
    parser.add_argument("--push", action="store_true", help="push it to its registry")
    parser.add_argument("--dry-run", action="store_true", help="say what would be built, and build nothing")


def main(options: argparse.Namespace) -> None:
    """Build the image, push it if asked; raises :class:`~mlretrain.errors.ConfigError` with a remedy."""
    for name in (options.tag, options.base):
        if not is_image(name):
            remedy = "Write one such as registry.example/team/flights:3."
            raise ConfigError("not the name of an image", found=repr(name), remedy=remedy)
    recipe = recipe_of(options.pipeline, options.code, options.base)
    _tell(recipe)
    if options.dry_run:
        print(f"\n{_dockerfile()}\ndocker {' '.join(_build(recipe, options.tag, Path('CONTEXT')))}")
        return
    engine = find_engine()
    with TemporaryDirectory(prefix="mlretrain-image-") as folder:
        write_context(recipe, Path(folder))
        if subprocess.run([engine, *_build(recipe, options.tag, Path(folder))], check=False).returncode:
            raise _not_built(engine, recipe)
    if options.push and subprocess.run([engine, "push", options.tag], check=False).returncode:
        remedy = f"See what {engine} says above; log in with `{engine} login`."
        raise ConfigError("the image could not be pushed", found=options.tag, remedy=remedy)
    print(
        f"{options.tag} is {'pushed' if options.push else 'built'}. Stacks use it by `image: {options.tag}`."
    )


def default_base() -> str:
    """The runtime image of this version, as ``docker/Dockerfile`` of the sources makes it."""
    return f"mlretrain/runtime:{version('airflow-provider-mlretrain')}"


def recipe_of(pipelines: Sequence[Path], code: Path | None, base: str) -> Recipe:
    """What the image of these pipelines needs. Raises ``SpecErrors`` for one that is broken."""
    if not pipelines and code is None:
        raise ConfigError("no code found", allowed="pipeline files, or --code FOLDER", remedy="Give one.")
    sources = [load_source(path.absolute()) for path in pipelines]
    environments = [source.spec.train.environment for source in sources]
    wanted = {each for environment in environments if environment for each in environment.requirements}
    if code is None:
        code = _common([code_of(source.path, source.spec.train.entrypoint) for source in sources])
    else:
        code = code.absolute()
        wanted |= _requirements_of(code)
    found = list(_walk(code))
    paths = tuple(path for path, copied in found if copied)
    if not any(path.suffix == ".py" for path in paths):
        raise ConfigError("no code found", found=f"no Python file in {code}", remedy="Give --code FOLDER.")
    return Recipe(
        base=base,
        code=code,
        paths=paths,
        left_out=tuple(path for path, copied in found if not copied),
        requirements=tuple(sorted(wanted)),
    )


def write_context(recipe: Recipe, folder: Path) -> None:
    """The folder that the engine builds from; everything in it is readable for the image's user."""
    (folder / "Dockerfile").write_text(_dockerfile())
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in recipe.requirements))
    ignored = recipe.code / ".dockerignore"
    if ignored.is_file():
        (folder / ".dockerignore").write_text(_below_code(ignored.read_text()))
    for path in recipe.paths:
        target = folder / "code" / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        shutil.copyfile(recipe.code / path, target)
        target.chmod(0o755 if (recipe.code / path).stat().st_mode & 0o100 else 0o644)


def find_engine() -> str:
    """``docker`` or ``podman``, whichever answers first."""
    installed = [name for name in ENGINES if shutil.which(name)]
    said = []
    for name in installed:
        answer = subprocess.run([name, "info"], check=False, capture_output=True, text=True)
        if answer.returncode == 0:
            return name
        said.append(f"{name}: {(answer.stderr.strip() or 'no answer').splitlines()[-1]}")
    if not installed:
        remedy = "Install one, or build where there is one; --dry-run shows what is built."
        raise ConfigError("no container engine", allowed=", ".join(ENGINES), remedy=remedy)
    remedy = f"Start it, and check with `{installed[0]} info` that you may use it."
    raise ConfigError("the container engine does not answer", found="; ".join(said), remedy=remedy)


def code_of(pipeline: Path, entrypoint: str | None) -> Path:
    """The folder from which the entry point is imported: the pipeline's, or one above it."""
    if entrypoint is None:
        return pipeline.parent
    name = entrypoint.partition(":")[0].partition(".")[0]
    for folder in search_path(pipeline.parent, None):
        if (folder / name).is_dir() or (folder / f"{name}.py").is_file():
            return folder
    raise ConfigError(
        f"no code found for `{entrypoint}`",
        where=str(pipeline),
        allowed=f"{name}/ or {name}.py beside the pipeline, or above it in the project",
        remedy="Give --code FOLDER.",
    )


def _common(folders: Sequence[Path]) -> Path:
    found = sorted(set(folders))
    if len(found) > 1:
        places = ", ".join(map(str, found))
        remedy = "Build one image for each, or give --code FOLDER."
        raise ConfigError("the pipelines' code is in several folders", found=places, remedy=remedy)
    return found[0]


def _requirements_of(code: Path) -> set[str]:
    file = code / "requirements.txt"
    lines = file.read_text().splitlines() if file.is_file() else []
    return {line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")}


def _walk(code: Path) -> Iterator[tuple[Path, bool]]:
    """Files in order and whether each is copied; clutter is not told, secrets and links to folders are."""
    for folder, folders, names in walk(code):
        here = Path(folder)
        refused = {name for name in (*folders, *names) if _matches(name, SECRETS)}
        refused |= {name for name in folders if (here / name).is_symlink()}
        folders[:] = sorted(name for name in set(folders) - refused if not _matches(name, CLUTTER))
        for name in sorted(refused.union(names)):
            if not _matches(name, CLUTTER) and (name in refused or (here / name).is_file()):
                yield (here / name).relative_to(code), name not in refused


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _below_code(ignored: str) -> str:
    """Patterns of the user's ``.dockerignore``, for the folder ``code`` of the context."""
    lines = [line.strip() for line in ignored.splitlines() if line.strip() and not line.startswith("#")]
    return "".join(
        f"!code/{line[1:].lstrip('/')}\n" if line.startswith("!") else f"code/{line.lstrip('/')}\n"
        for line in lines
    )


def _dockerfile() -> str:
    return files("mlretrain_factory").joinpath("image.Dockerfile").read_text("utf-8")


def _build(recipe: Recipe, tag: str, context: Path) -> list[str]:
    return ["build", "--build-arg", f"BASE={recipe.base}", "--tag", tag, str(context)]


def _tell(recipe: Recipe) -> None:
    size = sum((recipe.code / path).stat().st_size for path in recipe.paths)
    print(f"base          {recipe.base}")
    print(f"code          {recipe.code}: {len(recipe.paths)} files, {size / 1e6:.1f} MB")
    print(f"packages      {', '.join(recipe.requirements) or 'none beyond the base'}")
    if recipe.left_out:
        print(f"left out      {', '.join(map(str, recipe.left_out))}")


def _not_built(engine: str, recipe: Recipe) -> ConfigError:
    known = subprocess.run([engine, "image", "inspect", recipe.base], check=False, capture_output=True)
    if known.returncode == 0:
        return ConfigError("the image could not be built", remedy=f"See what {engine} says above.")
    return ConfigError(
        "the image could not be built",
        found=f"no base image {recipe.base} here",
        remedy="Pull it, give --base, or make it from the sources: "
        f"`{engine} build -f docker/Dockerfile --target runtime -t {recipe.base} .`",
    )
