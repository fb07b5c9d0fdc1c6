import argparse
import socket
from pathlib import Path

import pytest

from mlretrain.errors import ConfigError, MissingExtra
from mlretrain.serving import app
from mlretrain.serving.server import add_arguments, main


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(given)


def test_it_listens_on_the_loopback_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    args = arguments()

    assert (args.host, args.port, args.tracking_uri) == ("127.0.0.1", 5002, "http://mlflow:5000")


def test_no_registry_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    with pytest.raises(ConfigError, match="set MLFLOW_TRACKING_URI"):
        main(arguments())


@pytest.mark.parametrize("given", [("--model", "late"), ("--version", "7")])
def test_a_pinned_version_needs_its_model(given: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="a model and a version go together"):
        main(arguments("--tracking-uri", "http://mlflow:5000", *given))


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(ConfigError, match=f"{port}: cannot listen"):
            main(arguments("--port", port, "--tracking-uri", "http://mlflow:5000"))


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "REQUIRED", ("no_such_package",))

    with pytest.raises(MissingExtra, match=r"airflow-provider-mlretrain\[serve\]"):
        app.require()
