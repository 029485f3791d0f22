"""The help pages: open to everybody, made of files of ours, and linked from errors."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from authflows import help_pages
from tests.conftest import Cast

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-606")]
FILES = sorted(path.stem for path in (settings.BASE_DIR / "docs" / "help").glob("*.md"))
NAMES = [name for _, names in help_pages.TOPICS for name in names]


def test_every_file_is_a_topic_and_every_topic_a_file() -> None:
    assert [name for name in FILES if name != "index"] == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_topic_opens_without_a_sign_in_and_its_links_lead_somewhere(client: Client, cast: Cast, name: str) -> None:
    response = client.get(f"/portal/help/{name}/")
    assert response.status_code == 200
    article = re.search(r'<article class="help-text">(.*?)</article>', response.content.decode(), re.DOTALL)
    assert article is not None
    assert "<h1" not in article[1]
    client.force_login(cast.member)
    for link in re.findall(r'href="([^"]+)"', article[1]):
        assert link.startswith("/portal/")
        assert client.get(link).status_code == 200, link


def test_names_that_strangers_make_up_are_not_kept(client: Client) -> None:
    help_pages.sections()
    kept = help_pages._read.cache_info().currsize
    for number in range(5):
        assert client.get(f"/portal/help/made-up-{number}/").status_code == 404
    assert help_pages._read.cache_info().currsize == kept


def test_the_list_names_every_topic_with_what_it_is_about(client: Client, cast: Cast) -> None:
    text = client.get("/portal/help/").content.decode()
    for name in NAMES:
        topic = help_pages.topic_of(name)
        assert topic is not None
        assert f"/portal/help/{name}/" in text
        assert 10 < len(topic.summary) < 220, topic.summary


@pytest.mark.parametrize("name", ["absent", "index", "..", "%2e%2e%2fopenapi"])
def test_what_is_no_topic_is_not_found(client: Client, db: Any, name: str) -> None:
    assert client.get(f"/portal/help/{name}/").status_code == 404


def test_names_of_pages_are_links_to_them() -> None:
    topic = help_pages.topic_of("stopped-working")
    assert topic is not None
    assert '<a href="/portal/why/">Why can’t I?</a>' in topic.html
    assert '<a href="/portal/help/no-access/">' in topic.html


def test_the_navigation_leads_to_help(client: Client, cast: Cast) -> None:
    client.force_login(cast.member)
    assert b'href="/portal/help/"' in client.get("/portal/").content
