"""``python -m mlretrain.serving``: the model server without the command line of the factories."""

from __future__ import annotations

import argparse
import sys

from mlretrain.errors import MlretrainError
from mlretrain.serving.server import add_arguments, main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m mlretrain.serving", description="Serve model versions.")
    add_arguments(parser)
    try:
        sys.exit(main(parser.parse_args()))
    except MlretrainError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
