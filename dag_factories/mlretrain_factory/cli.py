"""``mlretrain``: check, explain, compare and simulate pipelines, serve models, ask and steer what runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name

from mlretrain.errors import MlretrainError
from mlretrain_factory.loader import load_source
from mlretrain_factory.plan.build import build_plan
from mlretrain_factory.plan.diff import diff
from mlretrain_factory.plan.explain import explain
from mlretrain_factory.plan.model import Plan
from mlretrain_factory.whereabouts import name_of, whereabouts

Command = Callable[[argparse.Namespace], "int | None"]

SERVE = "mlretrain.serving.server"
REPLAY = "mlretrain.runtime.replay"
IMAGE = "mlretrain_factory.image"
SIMULATE = "mlretrain_factory.simulate"
LIVE = {
    "history": "which version served when, who agreed to it, on what evidence",
    "rollback": "go back to an earlier version, through Airflow",
    "verify": "do ledger, registry and served traffic agree? Says what differs, and mends it on request",
    "card": "the model card of a version",
}
"""Commands about a pipeline that runs; each is a module of ``mlretrain_provider.console``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the answer is the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser(arguments[0] if arguments else "")
    options = parser.parse_args(arguments)
    command: Command = options.command
    try:
        return command(options) or 0
    except MlretrainError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _parser(chosen: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlretrain", description="Keeps machine-learning models fresh.")
    parser.add_argument("--version", action="version", version=version("airflow-provider-mlretrain"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    lint = commands.add_parser("lint", help="check pipelines, stacks and policies; every fault with its line")
    lint.add_argument("path", nargs="+", type=Path, help="a file, or a folder of them")
    lint.set_defaults(command=_lint)

    explained = commands.add_parser("explain", help="what a pipeline becomes, in words")
    explained.add_argument("path", type=Path)
    explained.add_argument("--json", action="store_true", help="the plan as JSON")
    explained.set_defaults(command=_explain)

    compared = commands.add_parser(
        "diff", help="what changes between two pipeline files; status 1 if anything"
    )
    compared.add_argument("old", type=Path)
    compared.add_argument("new", type=Path)
    compared.set_defaults(command=_diff)

    schema = commands.add_parser("schema", help="JSON Schema for editors")
    schema.add_argument("kind", nargs="?", choices=["pipeline", "stack", "policy"], default="pipeline")
    schema.set_defaults(command=_schema)

    simulated = commands.add_parser("simulate", help="replay a pipeline's policy over its own history")
    _add(simulated, SIMULATE, chosen == "simulate")
    _add(commands.add_parser("image", help="build the image of jobs"), IMAGE, chosen == "image")
    _add(commands.add_parser("serve", help="serve models and split their traffic"), SERVE, chosen == "serve")
    _add(commands.add_parser("replay", help="run a step again from its request"), REPLAY, chosen == "replay")
    for name, words in LIVE.items():
        _add_live(commands.add_parser(name, help=words, description=f"{words}."), name, chosen == name)
    return parser


def _add(parser: argparse.ArgumentParser, module: str, is_chosen: bool) -> None:
    """A command that has a module of its own, which is imported only when it is asked for."""
    if is_chosen:
        resolve_name(f"{module}:add_arguments")(parser)
        parser.set_defaults(command=resolve_name(f"{module}:main"))


def _add_live(parser: argparse.ArgumentParser, name: str, is_chosen: bool) -> None:
    """A command about one pipeline, which is given its name, and what its file says when it asks for that."""
    parser.add_argument("pipeline", help="its file; or its name, to be found below --dags")
    parser.add_argument("--dags", type=Path, default=Path(), help="the folder of pipelines (default: this)")
    _add(parser, f"mlretrain_provider.console.{name}", is_chosen)
    if is_chosen:
        parser.set_defaults(name_of=name_of, whereabouts=whereabouts)


def _lint(options: argparse.Namespace) -> int:
    from mlretrain_factory.lint import lint

    result = lint(options.path)
    for fault in result.faults:
        print(fault, file=sys.stderr)
    print(result)
    return 1 if result.broken else 0


def _plan(path: Path) -> Plan:
    return build_plan(load_source(path.absolute()))


def _explain(options: argparse.Namespace) -> None:
    plan = _plan(options.path)
    if options.json:
        from mlretrain import wire

        print(wire.pretty(plan).decode(), end="")
    else:
        print(explain(plan), end="")


def _diff(options: argparse.Namespace) -> int:
    lines = diff(_plan(options.old), _plan(options.new))
    print("\n".join(lines) or "no difference")
    return 1 if lines else 0


def _schema(options: argparse.Namespace) -> None:
    from mlretrain_factory.schema import SCHEMAS

    print(json.dumps(SCHEMAS[options.kind](), indent=2, ensure_ascii=False))
