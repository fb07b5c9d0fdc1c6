"""``make compose-env``: a ``.env`` for compose, with a random value for each secret that has none."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

ROOT = Path(__file__).parents[1]


def filled(text: str) -> str:
    """``text`` with every empty setting given a random value; what has one keeps it."""
    return "".join(_filled(line) for line in text.splitlines(keepends=True))


def _filled(line: str) -> str:
    name, separator, value = line.rstrip("\n").partition("=")
    if line.startswith("#") or not separator or value.strip():
        return line
    fernet = name.endswith("FERNET_KEY")
    made = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode() if fernet else secrets.token_hex(24)
    return f"{name}={made}\n"


def main() -> None:
    """Write ``.env``, readable by its owner only; one that is there is completed."""
    file = ROOT / ".env"
    text = (file if file.exists() else ROOT / ".env.example").read_text()
    file.touch(mode=0o600)
    file.write_text(filled(text))


if __name__ == "__main__":
    main()
