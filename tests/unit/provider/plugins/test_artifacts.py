"""The pages of the artifact store: who sees what, and with which rights."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from mlretrain.errors import MlretrainError, NotFound
from mlretrain.runtime.store import file_uri
from mlretrain_provider.plugins.artifacts import artifact_path, configured_roots, create_app, load, root_key

pytestmark = [
    pytest.mark.airflow,
    # Starlette on its test client, which FastAPI imports with Airflow's security module.
    pytest.mark.filterwarnings("ignore:Using `httpx`"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    docs = store / "flights" / "runs" / "r 1"
    docs.mkdir(parents=True)
    (docs / "index.html").write_text("<p>docs</p>")
    (docs / "model.pkl").write_bytes(b"model")
    (store / ".hidden").mkdir()
    (store / ".hidden" / "a.html").write_text("hidden")
    (tmp_path / "secret.html").write_text("secret")
    return store


def test_pages_below_a_root_are_shown(root: Path) -> None:
    uri = file_uri(root)

    assert load({"k": uri}, "k", "flights/runs/r 1/index.html") == (
        b"<p>docs</p>",
        "text/html; charset=utf-8",
    )


@pytest.mark.parametrize(
    "path",
    [
        "../secret.html",
        "flights/../../secret.html",
        "/etc/passwd.html",
        "..\\secret.html",
        "flights/runs/r 1/model.pkl",
        "flights/runs/r 1",
        ".hidden/a.html",
        "flights/none.html",
        "a\0.html",
        "",
    ],
)
def test_nothing_else_is(root: Path, path: str) -> None:
    with pytest.raises(NotFound):
        load({"k": file_uri(root)}, "k", path)


def test_an_unknown_root_says_what_to_set(root: Path) -> None:
    with pytest.raises(NotFound, match="AIRFLOW__MLRETRAIN__ARTIFACT_ROOTS"):
        load({}, "k", "index.html")


def test_roots_are_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MLRETRAIN__ARTIFACT_ROOTS", " s3://ml/artifacts/ , file:///opt/a,")

    assert configured_roots() == {
        root_key("s3://ml/artifacts"): "s3://ml/artifacts/",
        root_key("file:///opt/a"): "file:///opt/a",
    }


def test_no_roots_by_default() -> None:
    assert configured_roots() == {}


@pytest.mark.parametrize(
    ("root_uri", "uri", "path"),
    [
        ("s3://ml/a", "s3://ml/a/p/x%20y.html", "p/x%2520y.html"),
        ("s3://ml/a/", "s3://ml/a/p/x.html", "p/x.html"),
        ("file:///a", "file:///a/50%25 off.html", "50%25%20off.html"),
    ],
)
def test_links_lead_to_the_page(root_uri: str, uri: str, path: str) -> None:
    assert artifact_path(root_uri, uri) == f"/mlretrain/artifacts/{root_key(root_uri)}/{path}"


def test_what_is_elsewhere_has_no_link() -> None:
    assert artifact_path("s3://ml/a", "s3://ml/abc/x.html") is None


def test_links_know_where_airflow_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/airflow/")

    assert str(artifact_path("s3://ml", "s3://ml/x.html")).startswith("/airflow/mlretrain/artifacts/")


def ask(path: str, *, logged_in: bool) -> httpx.Response:
    """What the web application answers."""
    from airflow.api_fastapi.core_api.security import get_user

    app = create_app()
    if logged_in:
        app.dependency_overrides[get_user] = lambda: "somebody"

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
            return await client.get(path)

    return asyncio.run(get())


@pytest.fixture
def page(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = file_uri(root)
    monkeypatch.setenv("AIRFLOW__MLRETRAIN__ARTIFACT_ROOTS", uri)
    return str(artifact_path(uri, f"{uri}/flights/runs/r 1/index.html")).removeprefix("/mlretrain")


def test_a_page_comes_in_a_sandbox(page: str) -> None:
    answer = ask(page, logged_in=True)

    assert (answer.status_code, answer.text) == (200, "<p>docs</p>")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-same-origin allow-popups; default-src 'none'")
    assert "script" not in policy
    assert "connect-src" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_strangers_see_nothing(page: str) -> None:
    assert ask(page, logged_in=False).status_code == 401


@pytest.mark.parametrize("path", ["none.html", "%2e%2e/secret.html", "..%2f..%2f..%2fsecret.html"])
def test_what_is_not_there_says_no_more_than_that(page: str, path: str) -> None:
    answer = ask(page.replace("index.html", path), logged_in=True)

    assert answer.status_code == 404
    assert "secret" not in answer.text
    assert "/store" not in answer.text


def test_without_roots_the_page_says_what_to_set(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__MLRETRAIN__ARTIFACT_ROOTS")

    answer = ask(page, logged_in=True)

    assert answer.status_code == 404
    assert "AIRFLOW__MLRETRAIN__ARTIFACT_ROOTS" in answer.text


def test_the_plugin_costs_nothing_until_it_is_asked() -> None:
    code = "import sys; import mlretrain_provider.plugins.ui; sys.exit('fastapi' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_store_errors_are_ours(root: Path) -> None:
    with pytest.raises(MlretrainError):
        load({"k": "gopher://x"}, "k", "index.html")
