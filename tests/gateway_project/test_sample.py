"""The sample server: registered once, then left to the admin; and what `make run` says next."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command

from authflows.inbound.api_keys import create_key, revoke_key
from gateway_project.management.commands.run_demo import welcome
from gateway_project.sample import register_sample
from servers.models import AuthConfig, PrivateDestination, Server, ServerGroup
from servers.tenancy import default_tenant
from tests.support.processes import free_port

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-106")]

PASSWORD = "correct horse battery staple"


def destinations() -> set[str]:
    return {str(destination) for destination in PrivateDestination.objects.all()}


def test_the_first_registration_makes_a_calculator_in_the_demo_group() -> None:
    server = register_sample(port=8765)

    assert server is not None
    assert (server.slug, server.url) == ("calculator", "http://127.0.0.1:8765/mcp")
    assert server.group is not None
    assert server.group.name == "Demo"
    assert AuthConfig.objects.get(server=server).method == AuthConfig.Method.NONE
    assert destinations() == {"127.0.0.1:8765"}


def test_a_second_registration_changes_nothing() -> None:
    first = register_sample(port=8765)
    assert first is not None
    second = register_sample(port=8765)

    assert second == first
    assert Server.objects.get(pk=first.pk).updated_at == first.updated_at
    assert ServerGroup.objects.count() == AuthConfig.objects.count() == 1


def test_a_deleted_sample_is_not_made_again() -> None:
    server = register_sample(port=8765)
    assert server is not None
    server.delete()

    assert register_sample(port=8765) is None
    assert register_sample(port=9999) is None
    assert not Server.objects.exists()


def test_what_an_admin_changed_stays_changed() -> None:
    server = register_sample(port=8765)
    assert server is not None
    server.url, server.name, server.slug, server.enabled = "https://mcp.example.com/mcp", "Sums", "sums", False
    server.group = None
    server.save()
    ServerGroup.objects.all().delete()
    PrivateDestination.objects.all().delete()

    again = register_sample(port=9999)

    assert again is not None
    assert (again.url, again.name, again.slug, again.enabled, again.group) == (
        "https://mcp.example.com/mcp",
        "Sums",
        "sums",
        False,
        None,
    )
    assert not ServerGroup.objects.exists()
    assert destinations() == set()


def test_a_removed_destination_is_not_allowed_again() -> None:
    register_sample(port=8765)
    PrivateDestination.objects.all().delete()
    register_sample(port=8765)

    assert destinations() == set()


def test_an_untouched_sample_follows_its_port() -> None:
    register_sample(port=8765)
    register_sample(port=8766)
    server = register_sample(port=8767)

    assert server is not None
    server.refresh_from_db()
    assert server.url == "http://127.0.0.1:8767/mcp"
    assert destinations() == {"127.0.0.1:8767"}


def test_somebody_elses_calculator_is_left_alone() -> None:
    own = Server.objects.create(
        tenant=default_tenant(), slug="calculator", name="Ours", url="https://mcp.example.com/mcp"
    )

    assert register_sample(port=8765) == own
    own.refresh_from_db()
    assert (own.name, own.url) == ("Ours", "https://mcp.example.com/mcp")
    assert destinations() == set()


def test_the_command_prints_the_url_that_clients_use(settings: Any) -> None:
    out = io.StringIO()
    call_command("register_sample", stdout=out)

    assert out.getvalue() == f"Calculator: {settings.PUBLIC_URL}/default/mcp/calculator/server\n"


def test_a_new_installation_is_told_to_make_the_first_admin_then_a_key_then_to_call() -> None:
    text = welcome(register_sample(port=8765))

    steps = [text.index(part) for part in ("/setup/", "claude mcp add", "GATEHOUSE_KEY=", "curl http")]
    assert steps == sorted(steps)


def test_with_an_admin_and_a_key_only_the_call_is_left() -> None:
    admin = get_user_model().objects.create_superuser("admin", "admin@example.com", PASSWORD)
    create_key(owner=admin, name="laptop", actor="admin")
    text = welcome(register_sample(port=8765))

    assert "/setup/" not in text
    assert "GATEHOUSE_KEY=" not in text
    assert "curl http" in text


def test_a_revoked_key_does_not_count() -> None:
    admin = get_user_model().objects.create_superuser("admin", "admin@example.com", PASSWORD)
    key, _ = create_key(owner=admin, name="laptop", actor="admin")
    revoke_key(key, actor="admin")

    assert "GATEHOUSE_KEY=" in welcome(None)


@pytest.mark.parametrize("variable", ["PORT", "CALCULATOR_PORT"])
def test_a_port_in_use_is_named_with_the_variable_to_change(variable: str) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port, other = taken.getsockname()[1], free_port()
        ports = (port, other) if variable == "PORT" else (other, port)
        with pytest.raises(CommandError, match=rf"Port {port} is in use.* make run {variable}={port + 1}"):
            call_command("run_demo", port=ports[0], calculator_port=ports[1])
