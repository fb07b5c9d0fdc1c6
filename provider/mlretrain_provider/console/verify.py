"""``mlretrain verify``: do ledger, registry and served traffic agree?"""

from __future__ import annotations

import argparse
import getpass
import sys

from mlretrain import wire
from mlretrain.verify import Agreement, Finding
from mlretrain_provider.console.place import Place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mlretrain verify``."""
    parser.add_argument(
        "--repair", action="store_true", help="mend what differs, and enter that in the ledger"
    )
    parser.add_argument("--json", action="store_true", help="the findings as JSON")


def main(options: argparse.Namespace) -> int:
    """What differs, on stdout; the status is 0 if all agree, or if all has been mended, else 1."""
    place = Place(**options.whereabouts(options.pipeline, options.dags))
    agreement = Agreement(
        pipeline=place.pipeline, store=place.store, registry=place.registry, target=place.target
    )
    found = agreement.repair(by=getpass.getuser()) if options.repair else agreement.verify()
    left = [each for each in found if each.differs]
    if options.json:
        sys.stdout.write(wire.pretty({"agree": not left, "findings": found}).decode())
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(place.pipeline, found, len(left))))
    return 1 if left else 0


def _lines(pipeline: str, found: tuple[Finding, ...], left: int) -> list[str]:
    lines = [f"{each.subject}: {each.message}{_state(each)}" for each in found]
    if left:
        mendable = any(each.differs and each.mendable for each in found)
        how = f": mlretrain verify {pipeline} --repair mends what can be" if mendable else ""
        return [*lines, f"{pipeline}: {left} {'thing differs' if left == 1 else 'things differ'}{how}"]
    return [*lines, f"{pipeline}: ledger, registry and what is served agree"]


def _state(finding: Finding) -> str:
    if finding.mended:
        return " (mended)"
    return " (cannot be mended)" if finding.differs and not finding.mendable else ""
