"""``mlretrain serve``: the model server as a process."""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from mlretrain.errors import ConfigError, MlretrainError
from mlretrain.serving.admin import TOKEN_VARIABLE
from mlretrain.serving.app import Settings, create_app, require
from mlretrain.serving.draining import Draining
from mlretrain.serving.predictions import FLUSH_ROWS, FLUSH_S

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--tracking-uri",
        default=os.environ.get("MLFLOW_TRACKING_URI"),
        help="MLflow's server (default: $MLFLOW_TRACKING_URI)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=5002, help="port to listen on; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--log-dir",
        type=Path,
        default=Path("mlretrain-serve/predictions"),
        help="folder of the prediction log (default: %(default)s)",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=Path("mlretrain-serve/state"),
        help="folder of the traffic in force (default: %(default)s)",
    )
    parser.add_argument("--model", help="with --version: the one model to serve, for good")
    parser.add_argument(
        "--version",
        action="append",
        default=[],
        help="with --model: the version to serve from the start, as in a container; given again: one that is "
        "loaded and gets no request. Nothing is remembered, and no other traffic can be ordered.",
    )
    parser.add_argument(
        "--drain-seconds",
        type=float,
        default=0.0,
        help="how long to go on answering once told to stop, not being ready any more (default: %(default)s)",
    )
    parser.add_argument(
        "--flush-rows",
        type=int,
        default=FLUSH_ROWS,
        help="rows after which predictions are written (default: %(default)s)",
    )
    parser.add_argument(
        "--flush-seconds",
        type=float,
        default=FLUSH_S,
        help="seconds after which predictions are written (default: %(default)s)",
    )


def main(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, answer what is in flight, write the log, return 0.

    The first line on standard output is ``mlretrain serve: http://host:port``. Raises
    :class:`~mlretrain.errors.ConfigError` if a setting cannot work, and for a pinned version that can never
    be served what is wrong with it.
    """
    require()
    if not args.tracking_uri:
        raise ConfigError(
            "no MLflow server is named",
            where="mlretrain serve",
            remedy="Pass --tracking-uri or set MLFLOW_TRACKING_URI.",
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = _settings(args)
    listening = listen(args.host, args.port)
    url = _url(args.host, listening.getsockname()[1])
    open_to_all = not settings.token and args.host not in ("127.0.0.1", "::1", "localhost")
    if open_to_all and settings.pinned is None:
        logger.warning("anyone who reaches %s may change what is served; set %s", url, TOKEN_VARIABLE)
    draining = Draining(args.drain_seconds)
    failures: list[MlretrainError] = []

    def failed(error: MlretrainError) -> None:
        if settings.pinned is not None:
            failures.append(error)
            for _ in range(2):  # the second signal ends it at once
                signal.raise_signal(signal.SIGTERM)

    app = create_app(settings, ending=draining.begun, failed=failed)
    sys.stdout.write(f"mlretrain serve: {url}\n")
    sys.stdout.flush()
    logger.info("serving on %s", url)
    _ignore_repeated_signals()
    _settle()
    draining.serve(app, listening)
    if failures:
        raise failures[0]
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    if bool(args.model) != bool(args.version):
        raise ConfigError(
            "a model and a version go together",
            where="mlretrain serve",
            found="--model without --version" if args.model else "--version without --model",
            remedy="Pass both to serve one version for good, or neither.",
        )
    return Settings(
        tracking_uri=args.tracking_uri,
        log_dir=args.log_dir,
        state_dir=args.state_dir,
        token=os.environ.get(TOKEN_VARIABLE) or None,
        pinned=(args.model, tuple(args.version)) if args.model else None,
        flush_rows=args.flush_rows,
        flush_s=args.flush_seconds,
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises :class:`~mlretrain.errors.ConfigError` if the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            "cannot listen",
            where=_url(host, port),
            found=error.strerror or str(error),
            remedy="Choose another --host or --port; --port 0 takes a free one.",
        ) from error


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _settle() -> None:
    """Import what the first request would, and keep it out of garbage collection.

    A full collection then looks at requests instead of at every module: it stops the server for a third of
    the time, which is what the slowest 1 % of requests wait for.
    """
    for module in ("mlflow.pyfunc.scoring_server", "pyarrow.parquet"):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()


def _ignore_repeated_signals() -> None:
    """uvicorn stops gracefully on a signal and then raises it again, which would end us with an error."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
