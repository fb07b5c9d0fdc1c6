"""``mlretrain card``: everything that is known of a model version, on one page."""

from __future__ import annotations

import argparse
import sys

from mlretrain.card import card
from mlretrain.dossier import gather
from mlretrain.errors import NotFound
from mlretrain_provider.console.place import Place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mlretrain card``."""
    parser.add_argument(
        "--version", default="champion", metavar="7|champion", help="which version (default: %(default)s)"
    )


def main(options: argparse.Namespace) -> None:
    """The model card as Markdown on stdout."""
    place = Place(**options.whereabouts(options.pipeline, options.dags))
    version = _number(options.version, place)
    known = gather(place.pipeline, version, ledger=place.ledger, registry=place.registry, read=place.read)
    sys.stdout.write(card(known))


def _number(version: str, place: Place) -> str:
    if version != "champion":
        return version.removeprefix("v")
    champion = place.ledger.standing().champion
    if champion is None:
        raise NotFound("there is no champion yet", where=place.pipeline, remedy="Name one: --version 1")
    return champion
