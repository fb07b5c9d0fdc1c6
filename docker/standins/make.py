"""``python docker/standins/make.py [ROOTFS]``: make the stand-ins on the engine that ``docker`` speaks to.

Needs root and debootstrap, whose result may be given. Packages come from where this machine's debootstrap
takes them, and from PyPI by the certificates that this machine trusts.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LABEL = "mlretrain.stand-in"
PUBLISHED = {
    "python": "python:3.12.12-slim-bookworm",
    "airflow": "apache/airflow:3.3.2-python3.12",
    "postgres": "postgres:17.10-bookworm",
    "redis": "redis:7.2.8-bookworm",
    "seaweedfs": "chrislusf/seaweedfs:4.47",
}
"""What our images and the compose file are made from."""

BASE = "mlretrain/standin-base:local"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PACKAGES = (
    "ca-certificates,curl,libbz2-1.0,libffi8,libgomp1,liblzma5,libpq5,libreadline8,libsqlite3-0,libssl3,"
    "postgresql-15,procps,redis-server,tini,tzdata,zlib1g"
)
NOT_NEEDED = shutil.ignore_patterns(
    "test", "tests", "idlelib", "tkinter", "__pycache__", "site-packages", "config-*"
)


def is_there(tag: str) -> bool:
    """Whether the engine has the image."""
    command = ["docker", "image", "inspect", tag]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def stand_ins() -> list[str]:
    """The tags of which the engine has a stand-in."""
    show = ["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}']
    answers = {
        tag: subprocess.run([*show, tag], capture_output=True, check=False) for tag in PUBLISHED.values()
    }
    return [tag for tag, answer in answers.items() if answer.returncode == 0 and answer.stdout.strip()]


def make_missing(rootfs: Path | None = None) -> None:
    """Make a stand-in of each image that the engine has not got.

    :param rootfs: what debootstrap made earlier.

    Raises :class:`RuntimeError` where stand-ins are needed and debootstrap is not installed.
    """
    missing = {target: tag for target, tag in PUBLISHED.items() if not is_there(tag)}
    if missing and not (rootfs or is_there(BASE) or shutil.which("debootstrap")):
        raise RuntimeError(
            "images are missing, and stand-ins need root and debootstrap: apt install debootstrap"
        )
    if missing and not is_there(BASE):
        with tempfile.TemporaryDirectory() as folder:
            _make_base(rootfs or Path(folder) / "rootfs")
    for target, tag in missing.items():
        sys.stdout.write(f"making a stand-in for {tag}\n")
        sys.stdout.flush()
        command = [
            "docker",
            "build",
            "--quiet",
            "--target",
            target,
            "--tag",
            tag,
            "--label",
            f"{LABEL}={target}",
        ]
        subprocess.run([*command, "--file", ROOT / "docker/standins/Dockerfile", ROOT], check=True)


def _make_base(rootfs: Path) -> None:
    """Import Debian 12 with this interpreter and this machine's certificates."""
    if not (rootfs / "bin").exists():
        debootstrap = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(rootfs)]
        subprocess.run(debootstrap, check=True, stdout=subprocess.DEVNULL)
    prefix, version = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = rootfs / "usr/local/lib" / version
    shutil.copytree(prefix / "lib" / version, library, ignore=NOT_NEEDED, dirs_exist_ok=True, symlinks=True)
    for shared in prefix.glob("lib/libpython*.so*"):
        shutil.copy2(shared, library.parent / shared.name)
    for name in (version, "python3", "python"):
        shutil.copy2(prefix / "bin" / version, rootfs / "usr/local/bin" / name)
    shutil.copy2(CERTIFICATES, rootfs / CERTIFICATES.lstrip("/"))
    changes = [f"ENV {name}={CERTIFICATES}" for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")]
    options = [part for change in (*changes, f"LABEL {LABEL}=base") for part in ("--change", change)]
    with subprocess.Popen(["tar", "-C", rootfs, "--numeric-owner", "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["docker", "import", *options, "-", BASE], stdin=tar.stdout, check=True)


if __name__ == "__main__":
    make_missing(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
