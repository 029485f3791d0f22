"""Secrets at rest and the way from a reference to a value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from servers.errors import SecretUnavailable
from servers.models import AuditEvent, StoredSecret
from servers.sealing import SealError
from servers.secrets.references import parse_reference
from servers.secrets.resolver import fill, resolve
from servers.secrets.store import open_secret, set_secret
from tests.conftest import Cast

CANARY = "canary-secret-value-é"


def store(cast: Cast, key: str = "token", value: str = CANARY, *, tenant: Any = None) -> StoredSecret:
    return set_secret(tenant=tenant or cast.tenant, group="github", key=key, value=value, actor="test")


def value_of(text: str, cast: Cast) -> str:
    return resolve(parse_reference(text), cast.tenant)


def refused(text: str, cast: Cast) -> str:
    with pytest.raises(SecretUnavailable) as caught:
        value_of(text, cast)
    assert caught.value.code == "secret_unavailable"
    return caught.value.public_message


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    """A folder that the operator named in GATEHOUSE_SECRET_DIRS, beside one that they did not."""
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "token").write_text("must stay here")
    settings.SECRET_FOLDERS = [allowed]
    return allowed


# --- Our own store --------------------------------------------------------------------------------


@pytest.mark.requirement("F-401")
def test_a_stored_secret_is_found_by_its_name_in_both_spellings(cast: Cast) -> None:
    secret = store(cast)
    assert secret.fqn == str(secret) == "secret://default:github:token"
    assert value_of("secret://default:github:token", cast) == CANARY
    assert value_of("tfy-secret://default:github:token", cast) == CANARY


@pytest.mark.requirement("F-401", "T55")
def test_no_value_of_a_secret_is_in_the_database_in_the_clear(cast: Cast) -> None:
    store(cast)
    store(cast, value=CANARY + " replaced")
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            assert "canary" not in str(cursor.fetchall())


@pytest.mark.requirement("T55")
def test_a_sealed_value_copied_to_another_row_does_not_open(cast: Cast) -> None:
    one, other = store(cast, "one"), store(cast, "other", "other value")
    StoredSecret.objects.filter(pk=other.pk).update(sealed_value=one.sealed_value)
    other.refresh_from_db()
    with pytest.raises(SealError):
        open_secret(other)
    message = refused("secret://default:github:other", cast)
    assert "secret://default:github:other" in message
    assert "Set it again" in message


@pytest.mark.requirement("T55", "F-404")
def test_a_secret_does_not_open_without_its_key(cast: Cast, settings: Any) -> None:
    from gateway_project.keys import make_ring_key
    from servers.sealing import KeyRing

    store(cast)
    settings.KEY_RING = KeyRing.parse(make_ring_key())
    assert "key ring" in refused("secret://default:github:token", cast)


@pytest.mark.requirement("F-107")
def test_a_secret_of_another_tenant_is_as_good_as_missing(cast: Cast) -> None:
    store(cast, tenant=cast.other_tenant)
    theirs = refused("secret://other:github:token", cast)
    assert theirs.replace("other", "default") == refused("secret://default:github:token", cast)


@pytest.mark.requirement("F-401")
def test_setting_a_secret_again_replaces_its_value(cast: Cast) -> None:
    first = store(cast)
    second = store(cast, value="second")
    assert second.pk == first.pk
    assert value_of("secret://default:github:token", cast) == "second"


@pytest.mark.requirement("F-801")
def test_setting_a_secret_is_audited_without_the_value(cast: Cast) -> None:
    secret = store(cast)
    event = AuditEvent.objects.get(action="secret:set")
    assert (event.subject, event.subject_id, event.tenant) == (secret.fqn, str(secret.pk), cast.tenant)
    assert "canary" not in str(AuditEvent.objects.values_list())


@pytest.mark.parametrize(
    ("group", "key"), [("Group", "k"), ("g", ""), ("g", "a:b"), ("g", "a/b"), ("", "k"), ("g", ".")]
)
def test_a_name_that_could_not_be_referred_to_is_refused(cast: Cast, group: str, key: str) -> None:
    with pytest.raises(ValidationError):
        set_secret(tenant=cast.tenant, group=group, key=key, value="v", actor="test")
    assert not StoredSecret.objects.exists()


# --- Environment ----------------------------------------------------------------------------------


@pytest.mark.requirement("F-401")
def test_a_variable_that_the_operator_listed_can_be_used(cast: Cast) -> None:
    assert value_of("env://TEST_UPSTREAM_TOKEN", cast) == "canary-environment-secret"


@pytest.mark.requirement("F-401", "T55")
@pytest.mark.parametrize("name", ["PATH", "HOME", "GATEHOUSE_DATA_DIR", "GATEHOUSE_SECRET_KEY", "DATABASE_URL"])
def test_no_other_variable_can_be_used(cast: Cast, name: str) -> None:
    message = refused(f"env://{name}", cast)
    assert "GATEHOUSE_SECRET_ENV" in message
    assert os.environ.get(name, "no value") not in message


@pytest.mark.requirement("F-401")
@pytest.mark.parametrize("value", [None, ""])
def test_a_listed_variable_without_a_value_is_unavailable(
    cast: Cast, value: str | None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SECRET_ENVIRONMENT = frozenset({"ABSENT"})
    if value is not None:
        monkeypatch.setenv("ABSENT", value)
    assert "env://ABSENT is not set" in refused("env://ABSENT", cast)


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.requirement("F-401")
def test_a_file_in_a_listed_folder_can_be_used(cast: Cast, folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "token").write_text(f" {CANARY}\n")
    assert value_of(f"file://{folder}/deep/token", cast) == CANARY


@pytest.mark.requirement("F-401")
def test_a_mounted_secret_may_be_a_link_inside_its_folder(cast: Cast, folder: Path) -> None:
    """Kubernetes mounts `token` as a link to `..data/token`, and `..data` as a link to a dated folder."""
    (folder / "..2026").mkdir()
    (folder / "..2026" / "token").write_text("mounted")
    (folder / "..data").symlink_to("..2026")
    (folder / "token").symlink_to("..data/token")
    assert value_of(f"file://{folder}/token", cast) == "mounted"


@pytest.mark.requirement("F-401", "T55")
def test_no_file_outside_the_listed_folders_can_be_used(cast: Cast, folder: Path) -> None:
    outside = folder.parent / "outside"
    (folder / "link").symlink_to(outside / "token")
    (folder / "linked-folder").symlink_to(outside)
    (folder.parent / "allowed-not").mkdir()
    (folder.parent / "allowed-not" / "token").write_text("must stay here")
    for path in ("../outside/token", "link", "linked-folder/token", "./../outside/token", "../allowed-not/token"):
        text = f"file://{folder}/{path}"
        try:
            parse_reference(text)
        except ValueError:
            continue
        message = refused(text, cast)
        assert "GATEHOUSE_SECRET_DIRS" in message
        assert "must stay here" not in message
    for path in (outside / "token", Path("/etc/passwd"), Path("/proc/self/environ")):
        assert "GATEHOUSE_SECRET_DIRS" in refused(f"file://{path}", cast)


@pytest.mark.requirement("F-401")
def test_what_is_not_a_readable_text_is_named(cast: Cast, folder: Path) -> None:
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "binary").write_bytes(b"\xff\xfe")
    (folder / "large").write_bytes(b"x" * (64 * 1024 + 1))
    (folder / "empty").write_text(" \n")
    (folder / "loop").symlink_to("loop")
    for name, complaint in (
        ("missing", "not a file"),
        ("folder", "not a file"),
        ("pipe", "not a file"),
        ("binary", "not text"),
        ("large", "larger"),
        ("empty", "empty"),
        ("loop", "cannot be read"),
    ):
        message = refused(f"file://{folder}/{name}", cast)
        assert complaint in message, name
        assert f"file://{folder}/{name}" in message


# --- Texts with references ------------------------------------------------------------------------


@pytest.mark.requirement("F-302", "F-401")
def test_references_inside_a_text_are_filled_in_once(cast: Cast) -> None:
    store(cast, "a", "env://TEST_UPSTREAM_TOKEN")
    store(cast, "b", "second")
    text = "x=secret://default:github:a;y=<secret://default:github:b>"
    # A value that looks like a reference is a value.
    assert fill(text, cast.tenant) == "x=env://TEST_UPSTREAM_TOKEN;y=<second>"


@pytest.mark.requirement("F-302")
def test_a_text_without_references_stays_as_it_is(cast: Cast) -> None:
    assert fill("plain: text // with:colons", cast.tenant) == "plain: text // with:colons"


@pytest.mark.requirement("F-401")
def test_a_malformed_reference_in_a_text_is_an_unavailable_secret(cast: Cast) -> None:
    with pytest.raises(SecretUnavailable, match="three parts"):
        fill("Bearer secret://default:github", cast.tenant)
