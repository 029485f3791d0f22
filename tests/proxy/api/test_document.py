"""The OpenAPI document: it is what the code says, and everybody may read it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.test import Client

from proxy.api.document import DOCUMENT
from proxy.api.problems import TYPES

pytestmark = [pytest.mark.requirement("F-604")]


def test_the_document_is_what_the_code_says(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "scripts.openapi", "--check"], cwd=settings.BASE_DIR, capture_output=True, text=True
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.django_db
def test_everybody_may_read_the_document() -> None:
    answer = Client().get("/api/v1/openapi.yaml")

    assert answer.status_code == 200
    assert answer.content == (settings.BASE_DIR / DOCUMENT).read_bytes()
    assert yaml.safe_load(answer.content)["openapi"].startswith("3.")


def test_the_gateway_starts_without_the_generator() -> None:
    program = (
        "import sys; sys.modules['drf_spectacular'] = None\n"
        "import django; django.setup()\n"
        "from django.urls import resolve; resolve('/api/v1/servers')\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=settings.BASE_DIR, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stderr


def test_every_problem_is_explained_in_the_documentation() -> None:
    text = (settings.BASE_DIR / "docs" / "api.md").read_text()

    assert [code for code in TYPES if f"| `{code}` |" not in text] == []
