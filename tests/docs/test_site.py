"""The documentation site builds without a warning, and what is made from code is what the code makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import ide_guides

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.requirement("F-601")


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """A link that leads nowhere, a picture that is not there, a page in no list: each is a warning."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        str(ROOT / "docs"),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    front = (tmp_path / "index.html").read_text()
    assert "quick-start.html" in front
    assert "https://fonts" not in front, "the site loads nothing from elsewhere"


def test_the_page_of_each_ide_says_what_the_portal_says() -> None:
    assert ide_guides.PAGE.read_text() == ide_guides.page(), "run: python -m scripts.ide_guides"
