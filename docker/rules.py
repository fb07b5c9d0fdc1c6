"""What the compose file promises, read from the file itself: no engine is needed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from environment import filled

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:[?-])?([^}]*)\}")
_SECRET = re.compile(r"KEY|PASSWORD|SECRET|TOKEN")
_LOOPBACK = ("127.0.0.1:", "${BIND_ADDRESS:-127.0.0.1}:")
_PINNED = re.compile(r".+:(\$\{MLRETRAIN_TAG:-\d[\w.]*\}|[\w.-]*\d+\.\d[\w.-]*)")


def faults(text: str | None = None) -> list[str]:
    """Every promise that the compose file, or ``text`` in its place, and ``.env.example`` break."""
    text = COMPOSE.read_text() if text is None else text
    document = yaml.safe_load(text)
    found = [fault for name, service in document["services"].items() for fault in _of_service(name, service)]
    return found + list(_of_variables(text, EXAMPLE.read_text()))


def is_job(service: Mapping[str, Any]) -> bool:
    """Whether a service is to end."""
    return bool(service["restart"] != "unless-stopped")


def _of_service(name: str, service: Mapping[str, Any]) -> Iterator[str]:
    if not _PINNED.fullmatch(service["image"]):
        yield f"{name}: the image {service['image']} has no exact tag"
    if str(service.get("user", "root")).split(":")[0] in ("root", "0"):
        yield f"{name}: runs as root"
    if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", []):
        yield f"{name}: may get privileges"
    if not is_job(service) and "healthcheck" not in service:
        yield f"{name}: nobody sees whether it is healthy"
    for port in service.get("ports", []):
        if not str(port).startswith(_LOOPBACK):
            yield f"{name}: publishes {port} beyond loopback without being asked"
    for needed, how in service.get("depends_on", {}).items():
        if how.get("condition") == "service_started":
            yield f"{name}: does not wait for {needed} to be ready"


def _of_variables(compose: str, example: str) -> Iterator[str]:
    settings = dict(line.split("=", 1) for line in example.splitlines() if "=" in line and line[0] != "#")
    used = {name: (how, rest) for name, how, rest in _VARIABLE.findall(compose)}
    for name, (how, rest) in used.items():
        if _SECRET.search(name) and how != ":?":
            yield f"{name}: a secret that compose does not insist on"
        if how == ":?" and settings.get(name) != "":
            yield f"{name}: {EXAMPLE.name} must list it without a value"
        if how == ":-" and not rest:
            yield f"{name}: has no default"
    for name in settings.keys() - used.keys():
        yield f"{name}: {EXAMPLE.name} lists it and nothing uses it"


def schema_faults(folder: Path) -> list[str] | None:
    """What ``docker compose config`` finds; none: this machine has no ``docker compose``.

    It must accept the file with secrets that were made, and refuse it without.
    """
    compose = ["docker", "compose", "--file", str(COMPOSE), "--profile", "example"]
    if (
        not shutil.which("docker")
        or subprocess.run([*compose[:2], "version"], capture_output=True, check=False).returncode
    ):
        return None
    made = folder / "made.env"
    made.write_text(filled(EXAMPLE.read_text()))
    found = []
    accepted = subprocess.run(
        [*compose, "--env-file", str(made), "config", "-q"], capture_output=True, text=True, check=False
    )
    if accepted.returncode:
        found.append(accepted.stderr.strip())
    refused = subprocess.run(
        [*compose, "--env-file", str(EXAMPLE), "config", "-q"], capture_output=True, text=True, check=False
    )
    if not refused.returncode or "make compose-env" not in refused.stderr:
        found.append("docker compose accepts empty secrets")
    return found
