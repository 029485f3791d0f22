"""The credential for the upstream: from the configuration and its secrets, told apart when it changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from authflows.outbound import credentials
from authflows.outbound.credentials import Credential, credential_for
from servers import registry
from servers.access import Principal
from servers.changes import NotCached
from servers.errors import SecretUnavailable
from servers.models import AuthConfig
from servers.secrets.store import set_secret
from tests.conftest import Cast
from tests.support import environment

pytestmark = pytest.mark.django_db(transaction=True)
caller = Principal(1, "caller", True, frozenset(), frozenset(), "api_key:1")


def configure(cast: Cast, *headers: tuple[str, str]) -> None:
    config = AuthConfig.objects.get(server=cast.server)
    config.method = AuthConfig.Method.SHARED_HEADER
    config.set_header_templates(list(headers))
    config.save()


def credential(*, may_load: bool = True) -> Credential:
    server = registry.find("default", "calculator")
    assert server is not None
    return credential_for(caller, server, may_load=may_load)


def secret(cast: Cast, value: str) -> None:
    set_secret(tenant=cast.tenant, group="g", key="k", value=value, actor="test")


@pytest.fixture
def secret_file() -> Path:
    folder = environment.FOLDER / "secret-files"
    folder.mkdir(exist_ok=True)
    file = folder / "token"
    file.write_text("from a file\n")
    return file


@pytest.mark.requirement("F-301")
def test_no_auth_sends_no_header(cast: Cast) -> None:
    assert credential().headers == ()


def test_a_server_without_a_configuration_sends_no_header(cast: Cast) -> None:
    AuthConfig.objects.all().delete()
    assert credential().headers == ()


@pytest.mark.requirement("F-302", "F-401")
def test_header_auth_fills_in_every_kind_of_reference(cast: Cast, secret_file: Path) -> None:
    secret(cast, "stored value")
    configure(
        cast,
        ("Authorization", "Bearer secret://default:g:k"),
        ("X-Old-Spelling", "tfy-secret://default:g:k"),
        ("X-Environment", "<env://TEST_UPSTREAM_TOKEN>"),
        ("X-File", f"file://{secret_file}"),
        ("X-Plain", "as it stands"),
    )
    assert credential().headers == (
        ("Authorization", "Bearer stored value"),
        ("X-Old-Spelling", "stored value"),
        ("X-Environment", "<canary-environment-secret>"),
        ("X-File", "from a file"),
        ("X-Plain", "as it stands"),
    )


@pytest.mark.requirement("T53", "F-302")
@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "a\x00b", "a\x7f", "é", "a\u2028b"])
def test_a_secret_that_no_header_may_hold_is_refused_without_showing_it(cast: Cast, value: str) -> None:
    secret(cast, value)
    configure(cast, ("X-Key", "secret://default:g:k"))
    with pytest.raises(SecretUnavailable, match="X-Key") as caught:
        credential()
    assert value not in str(caught.value) + caught.value.log_detail


@pytest.mark.requirement("T56")
def test_a_credential_never_shows_its_values(cast: Cast) -> None:
    secret(cast, "canary-value")
    configure(cast, ("X-Key", "secret://default:g:k"))
    shown = repr(credential())
    assert "X-Key" in shown
    assert "canary" not in shown


@pytest.mark.requirement("F-401")
def test_a_missing_secret_is_named(cast: Cast) -> None:
    configure(cast, ("X-Key", "secret://default:g:gone"))
    with pytest.raises(SecretUnavailable, match="secret://default:g:gone"):
        credential()


def test_a_malformed_reference_is_an_unavailable_secret(cast: Cast) -> None:
    configure(cast, ("X-Key", "secret://default:only-two"))
    with pytest.raises(SecretUnavailable, match="three parts"):
        credential()


@pytest.mark.requirement("T9", "F-401")
def test_a_new_value_is_used_at_once_and_has_another_epoch(cast: Cast) -> None:
    secret(cast, "first")
    configure(cast, ("X-Key", "secret://default:g:k"))
    first = credential()
    assert credential(may_load=False) is first
    secret(cast, "second")
    second = credential()
    assert second.headers == (("X-Key", "second"),)
    assert second.epoch != first.epoch


@pytest.mark.requirement("SE-4")
def test_a_configuration_made_anew_does_not_repeat_an_old_epoch(cast: Cast) -> None:
    configure(cast, ("X-Key", "one"))
    first = credential()
    AuthConfig.objects.all().delete()
    AuthConfig.objects.create(server=cast.server)
    configure(cast, ("X-Key", "two"))
    second = credential()
    assert second.headers == (("X-Key", "two"),)
    assert second.epoch != first.epoch


@pytest.mark.requirement("SE-4")
def test_the_epoch_stays_while_nothing_changes(cast: Cast) -> None:
    from servers import changes

    secret(cast, "value")
    configure(cast, ("X-Key", "secret://default:g:k"))
    first = credential()
    changes.forget_everything()
    assert credential() == first


@pytest.mark.requirement("F-401", "SE-4")
def test_a_mounted_file_is_read_again_after_a_while(
    cast: Cast, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    configure(cast, ("X-File", f"file://{secret_file}"))
    first = credential()
    secret_file.write_text("rotated")
    assert credential() == first
    monkeypatch.setattr(credentials, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 60))
    with pytest.raises(NotCached):
        credential(may_load=False)
    second = credential()
    assert second.headers == (("X-File", "rotated"),)
    assert second.epoch != first.epoch


def test_a_server_that_was_deleted_a_moment_ago_is_an_unavailable_secret(cast: Cast) -> None:
    facts = registry.facts_of(cast.server)
    cast.server.delete()
    with pytest.raises(SecretUnavailable, match="Calculator"):
        credential_for(caller, facts)


@pytest.mark.requirement("F-302")
def test_the_steady_state_reads_no_secret(cast: Cast, django_assert_num_queries: Callable[[int], Any]) -> None:
    secret(cast, "value")
    configure(cast, ("X-Key", "secret://default:g:k"))
    credential()
    with django_assert_num_queries(0):
        assert credential(may_load=False).headers == (("X-Key", "value"),)
