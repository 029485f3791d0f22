"""Model endpoints in the admin: who may keep them, the key that never comes out, and the test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.messages import get_messages

from servers.model_endpoints import authorization, offered_to
from servers.models import AuditEvent, Membership, ModelEndpoint, StoredSecret
from servers.secrets.store import open_secret, set_secret
from tests.conftest import Cast, allow_private
from tests.servers.test_admin_access import page, signed_in
from tests.support.model_server import ModelServer, Reply

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-603")]
KEY = "sk-canary-81f2"


def typed(**changes: Any) -> dict[str, Any]:
    given = {"name": "House", "base_url": "https://models.example/v1/", "model_names": "small\n\n large \nsmall"}
    return {**given, "new_key": "", "enabled": "on", **changes}


@pytest.fixture
def endpoint(cast: Cast) -> ModelEndpoint:
    answer = signed_in(cast.admin).post(page("servers_modelendpoint_add"), typed(tenant=cast.tenant.pk, new_key=KEY))
    assert answer.status_code == 302
    return ModelEndpoint.objects.get()


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        allow_private(server.url)
        yield server


def errors(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200
    found: dict[str, Any] = answer.context["adminform"].form.errors
    return found


def tried(cast: Cast, endpoint: ModelEndpoint) -> str:
    answer = signed_in(cast.admin).post(page("servers_modelendpoint_test", endpoint.pk))
    assert answer.status_code == 302
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def test_a_typed_key_is_sealed_and_the_row_has_its_name(cast: Cast, endpoint: ModelEndpoint) -> None:
    assert endpoint.model_names == ["small", "large"]
    assert endpoint.base_url == "https://models.example/v1"
    assert endpoint.key.startswith("secret://default:model-endpoints:house-")
    assert open_secret(StoredSecret.objects.get()) == KEY
    assert authorization(endpoint) == (("authorization", f"Bearer {KEY}"),)
    assert AuditEvent.objects.filter(action="model_endpoint:create", actor="admin").count() == 1


@pytest.mark.requirement("T56")
def test_the_key_is_on_no_page_and_in_no_record(cast: Cast, endpoint: ModelEndpoint) -> None:
    client = signed_in(cast.admin)
    for name in ("change", "history", "delete"):
        assert KEY not in client.get(page(f"servers_modelendpoint_{name}", endpoint.pk)).content.decode()
    wrong = client.post(page("servers_modelendpoint_change", endpoint.pk), typed(name="", new_key=KEY))
    assert wrong.status_code == 200
    assert KEY not in wrong.content.decode()
    assert KEY not in json.dumps([event.detail for event in AuditEvent.objects.all()])


def test_a_key_stays_until_it_is_replaced_or_taken_away(cast: Cast, endpoint: ModelEndpoint) -> None:
    client, change = signed_in(cast.admin), page("servers_modelendpoint_change", endpoint.pk)
    client.post(change, typed(name="Home"))
    endpoint.refresh_from_db()
    assert (endpoint.name, bool(endpoint.key)) == ("Home", True)

    client.post(change, typed(no_key="on"))
    endpoint.refresh_from_db()
    assert (endpoint.key, authorization(endpoint)) == ("", ())


@pytest.mark.requirement("T29")
def test_a_new_address_does_not_get_the_old_key(cast: Cast, endpoint: ModelEndpoint) -> None:
    client, change = signed_in(cast.admin), page("servers_modelendpoint_change", endpoint.pk)

    assert "new_key" in errors(client.post(change, typed(base_url="https://elsewhere.example/v1")))
    assert client.post(change, typed(base_url="https://models.example/v2")).status_code == 302
    assert client.post(change, typed(base_url="https://elsewhere.example/v1", new_key="sk-2")).status_code == 302


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"base_url": "ftp://models.example"}, "base_url"),
        ({"base_url": "https://me:secret@models.example"}, "base_url"),
        ({"base_url": "https://models.example/v1/chat/completions"}, "base_url"),
        ({"model_names": " \n"}, "model_names"),
        ({"model_names": "x" * 300}, "model_names"),
        ({"new_key": "two words"}, "new_key"),
        ({"new_key": "secret://default:llm:gone"}, "new_key"),
        ({"new_key": "secret://other:llm:key"}, "new_key"),
        ({"new_key": "secret://"}, "new_key"),
    ],
)
def test_what_cannot_work_is_said_beside_its_field(cast: Cast, changes: dict[str, str], field: str) -> None:
    set_secret(tenant=cast.other_tenant, group="llm", key="key", value="x", actor="admin")

    answer = signed_in(cast.admin).post(page("servers_modelendpoint_add"), typed(tenant=cast.tenant.pk, **changes))

    assert list(errors(answer)) == [field]
    assert not ModelEndpoint.objects.exists()


def test_only_admins_of_the_tenant_see_and_keep_it(cast: Cast, endpoint: ModelEndpoint) -> None:
    foreign = ModelEndpoint.objects.create(
        tenant=cast.other_tenant, name="Far", base_url="https://far.example/v1", model_names=["x"]
    )
    Membership.objects.filter(user=cast.outsider).update(role=Membership.Role.ADMIN)
    admin_of_tenant = signed_in(cast.outsider)

    listed = admin_of_tenant.get(page("servers_modelendpoint_changelist")).content.decode()
    assert "House" in listed
    assert "far.example" not in listed
    assert admin_of_tenant.get(page("servers_modelendpoint_change", endpoint.pk)).status_code == 200
    assert admin_of_tenant.get(page("servers_modelendpoint_change", foreign.pk)).status_code == 302
    assert admin_of_tenant.post(page("servers_modelendpoint_test", foreign.pk)).status_code == 404
    assert signed_in(cast.manager).get(page("servers_modelendpoint_changelist")).status_code == 403
    assert signed_in(cast.manager).post(page("servers_modelendpoint_test", endpoint.pk)).status_code == 404


def test_people_see_names_and_models_of_what_is_theirs(cast: Cast, endpoint: ModelEndpoint) -> None:
    (offered,) = offered_to(cast.member)
    assert (offered.name, offered.models) == ("House", ("small", "large"))
    assert offered_to(cast.stranger) == []

    endpoint.teams.add(cast.readers)
    assert (len(offered_to(cast.member)), offered_to(cast.outsider)) == (1, [])


def test_a_secret_that_an_endpoint_uses_is_not_deleted(cast: Cast, endpoint: ModelEndpoint) -> None:
    secret = StoredSecret.objects.get()

    signed_in(cast.admin).post(page("servers_storedsecret_delete", secret.pk), {"post": "yes"})

    assert StoredSecret.objects.exists()


def test_the_test_says_whether_it_works(cast: Cast, endpoint: ModelEndpoint, model: ModelServer) -> None:
    ModelEndpoint.objects.update(base_url=model.url)

    said = tried(cast, endpoint)

    assert "answers and lists 2 models" in said
    assert [asked.path for asked in model.asked] == ["/v1/models"]
    assert model.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_test_asks_for_a_word_where_there_is_no_list(
    cast: Cast, endpoint: ModelEndpoint, model: ModelServer
) -> None:
    ModelEndpoint.objects.update(base_url=model.url)
    word = json.dumps({"choices": [{"message": {"content": "Hi"}}]}).encode()
    model.replies += [Reply(status=404), Reply([word], content_type="application/json")]

    assert "small answers" in tried(cast, endpoint)
    assert [asked.path for asked in model.asked] == ["/v1/models", "/v1/chat/completions"]


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (Reply([b"sk-canary"], status=401), "refuses the key"),
        (Reply([b"<h1>Hi</h1>"]), "not with a list"),
        (Reply([b'{"data": [{"id": "other"}]}']), "does not list small, large"),
        (Reply(status=302, headers={"Location": "http://127.0.0.1:9/"}), "redirects elsewhere"),
        (Reply(status=500), "failed (HTTP 500)"),
        (Reply([b"{"], length=100), "cannot be reached, or broke off"),
    ],
    ids=["401", "page", "models", "redirect", "500", "cut"],
)
def test_the_test_says_what_is_wrong(
    cast: Cast, endpoint: ModelEndpoint, model: ModelServer, reply: Reply, sentence: str
) -> None:
    ModelEndpoint.objects.update(base_url=model.url)
    model.replies.append(reply)

    said = tried(cast, endpoint)

    assert sentence in said
    assert KEY not in said


@pytest.mark.requirement("T26")
def test_the_test_does_not_reach_into_our_network(cast: Cast, endpoint: ModelEndpoint) -> None:
    with ModelServer() as hidden:
        ModelEndpoint.objects.update(base_url=hidden.url)
        assert "is a private address" in tried(cast, endpoint)
    assert hidden.asked == []
