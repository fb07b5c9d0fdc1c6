"""What Airflow finds of an installed provider, asked from outside by its own command line."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from mlretrain_provider.get_provider_info import get_provider_info

pytestmark = pytest.mark.airflow

PROVIDER = "airflow-provider-mlretrain"
INFO = get_provider_info()


COMMANDS = ("list", "hooks", "behaviours", "links", "notifications", "triggers", "configs")
ASK = f"""
from airflow.cli.cli_parser import get_parser
parser = get_parser()
for command in {[("providers", each) for each in COMMANDS] + [("plugins",)]!r}:
    print("=====", command[-1])
    arguments = parser.parse_args([*command, "--output", "json"])
    arguments.func(arguments)
"""


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``airflow providers …`` and ``airflow plugins`` print, asked in one process."""
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    parts = [part.partition("\n") for part in done.stdout.split("===== ")[1:]]
    return {name.strip(): json.loads(text[text.index("[") :]) for name, _, text in parts}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("list", {PROVIDER}),
        (
            "hooks",
            {
                "mlretrain_provider.hooks.mlflow.MLflowHook",
                "mlretrain_provider.hooks.model_server.ModelServerHook",
            },
        ),
        ("behaviours", {"mlflow", "mlretrain_model_server"}),
        ("links", set(INFO["extra-links"])),
        ("notifications", set(INFO["notifications"])),
        ("triggers", set(INFO["triggers"][0]["python-modules"])),
        ("configs", {PROVIDER}),
    ],
)
def test_the_provider_is_listed(listed: dict[str, Any], command: str, expected: set[str]) -> None:
    text = json.dumps(listed[command])

    assert not [name for name in expected if name not in text]


def test_the_plugin_is_loaded(listed: dict[str, Any]) -> None:
    (plugin,) = [row for row in listed["plugins"] if row["name"] == "mlretrain"]

    assert "/mlretrain" in str(plugin["fastapi_apps"])


def test_the_info_is_what_airflow_wants() -> None:
    import airflow as package

    schema = json.loads((Path(package.__file__).parent / "provider_info.schema.json").read_text())

    import_module("jsonschema").validate(INFO, schema)


def test_every_name_in_the_info_exists() -> None:
    for kind in ("operators", "sensors", "hooks", "triggers", "bundles"):
        for module in INFO[kind][0]["python-modules"]:
            assert import_module(module).__doc__
    classes = [*INFO["extra-links"], *INFO["notifications"], INFO["plugins"][0]["plugin-class"]]
    classes += [each["hook-class-name"] for each in INFO["connection-types"]]
    for path in classes:
        assert inspect.isclass(resolve_name(path))


def test_every_module_is_in_the_info() -> None:
    root = Path(inspect.getfile(import_module("mlretrain_provider"))).parent
    for kind, parents in {
        "sensors": set[str](),
        "triggers": set[str](),
        "bundles": set[str](),
        "hooks": {"connection"},
        "operators": {"pipeline", "recipe", "step"},
    }.items():
        modules = {path.stem for path in (root / kind).glob("*.py")} - {"__init__"} - parents
        found = {each.rpartition(".")[2] for each in INFO[kind][0]["python-modules"]}
        assert found == modules, kind


def test_the_info_imports_nothing() -> None:
    code = "import sys; import mlretrain_provider.get_provider_info; sys.exit('airflow' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
