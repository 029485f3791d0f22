"""A person's own key for a server, and Auth Overrides: set, look, remove. Never a value. Thin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ValidationError as BadInput

from authflows.models import OwnKey
from authflows.outbound import my_own_keys, own_keys
from authflows.outbound.overrides import METHODS
from authflows.outbound.own_keys import Kept, NotKept
from proxy.api.operations import ApiView, Operation
from proxy.api.people import Subject, subject_of
from proxy.api.problems import Problem
from proxy.api.shapes import OwnKeyShape, OwnKeyTaken, PersonQuery
from servers.models import AuthConfig, Server
from servers.own_header import CleanValue, Placeholder, clean_value

TAG: Final = "Own keys and overrides"
_OF_OTHERS: Final = ("unknown_server", "not_manager", "unknown_person", "key_not_taken")
_NOT_KEPT: Final[Mapping[str, str]] = {
    "refused": "key_refused",
    "no_answer": "key_untested",
    "wait": "throttled",
    "setup": "key_not_taken",
}
Method = AuthConfig.Method


class OneOwnKey(ApiView):
    operations = {
        "get": Operation(
            "get_own_key", "How my key for a server stands", TAG, OwnKeyShape, query=PersonQuery, problems=_OF_OTHERS
        ),
        "put": Operation(
            "set_own_key",
            "Set my key in place of what there was; tried at the server before it is kept",
            TAG,
            OwnKeyShape,
            takes=OwnKeyTaken,
            query=PersonQuery,
            problems=(*_OF_OTHERS, "key_refused", "key_untested"),
            text="With `person`, a manager sets it for somebody who may use the server: their Auth Override.",
        ),
        "delete": Operation(
            "remove_own_key",
            "Forget my key",
            TAG,
            None,
            query=PersonQuery,
            status=204,
            problems=_OF_OTHERS,
            text="Doing it twice is no error. It may still be valid at its provider.",
        ),
    }

    def get(self, request: Request, tenant: str, slug: str) -> Response:
        found = self._subject(tenant, slug)
        return self.answer(_shown(found.server, _key(found)))

    @method_decorator(sensitive_variables())
    def put(self, request: Request, tenant: str, slug: str) -> Response:
        found, taken = self._subject(tenant, slug), self.taken()
        key, tested = set_key(
            found,
            taken["values"],
            actor=self.caller.user,
            expires_at=taken["expires_at"],
            comment=taken["comment"],
            keep_untested=taken["keep_untested"],
        )
        return self.answer({**_shown(found.server, key), "tested": tested})

    def delete(self, request: Request, tenant: str, slug: str) -> Response:
        remove_key(self._subject(tenant, slug), actor=self.caller.user.get_username())
        return Response(status=self.operation.status)

    def _subject(self, tenant: str, slug: str) -> Subject:
        person = self.asked().get("person")
        found = subject_of(self.caller, tenant=tenant, slug=slug, person=person)
        check_settable(found)
        return found


@sensitive_variables()
def set_key(
    subject: Subject,
    values: Mapping[str, str],
    *,
    actor: Any,
    expires_at: Any = None,
    comment: str = "",
    keep_untested: bool = False,
) -> tuple[OwnKey, bool]:
    """Keep the values, and say whether the server took them; raises Problem and REST framework's ValidationError."""
    if expires_at is not None and expires_at <= timezone.now():
        raise BadInput({"expires_at": ["Choose a time in the future."]})
    outcome = own_keys.enter(
        user=subject.user,
        server=subject.server,
        values=_clean(subject.server, values),
        actor=actor,
        expires_at=expires_at,
        comment=comment,
        keep_untested=keep_untested,
        for_others=subject.managed,
    )
    if isinstance(outcome, Kept):
        return outcome.key, outcome.tested
    raise _problem(outcome)


def remove_key(subject: Subject, *, actor: str) -> None:
    """Forget the key, if there is one."""
    key = _key(subject)
    if key is not None:
        own_keys.remove(key, actor=actor)


def check_settable(subject: Subject) -> None:
    """Raise Problem where nobody of the caller's standing has to do with keys."""
    method = getattr(getattr(subject.server, "auth_config", None), "method", None)
    if subject.managed and method in METHODS:
        return
    if method != Method.OWN_HEADER:
        name = subject.server.name
        text = f"{name} takes no keys of people's own."
        if method == Method.SHARED_HEADER:
            text = f"{name} is called with a key for everybody. Only a manager sets another one for somebody."
        raise Problem("key_not_taken", text)


@sensitive_variables()
def _clean(server: Server, values: Mapping[str, str]) -> dict[str, CleanValue]:
    """The values by the placeholder's name; raises ValidationError that names every field and holds no value."""
    asked = {one.name: one for one in own_keys.asked_of(server)}
    problems: dict[str, list[str]] = {
        name: ["The server does not ask for this."] for name in values if name not in asked
    }
    # Over a shared header each one may be left out.
    shared = server.auth_config.method == Method.SHARED_HEADER
    problems |= {name: ["Enter this value."] for name in asked if name not in values and not shared}
    clean: dict[str, CleanValue] = {}
    for name, placeholder in asked.items():
        if name in values:
            try:
                clean[name] = clean_value(placeholder, values[name])
            except ValidationError as error:
                problems[name] = error.messages
    if not problems and not clean:
        problems[""] = ["Enter at least one value, or nothing would differ from the shared ones."]
    if problems:
        raise BadInput({"values": problems})
    return clean


def _problem(outcome: NotKept) -> Problem:
    text = outcome.sentence.replace("tick “Keep it untested”", "set keep_untested")
    return Problem(_NOT_KEPT[outcome.reason], text, retry_after=60 if outcome.reason == "wait" else None)


def _key(subject: Subject) -> OwnKey | None:
    rows = OwnKey.objects.select_related("user", "server__tenant", "server__auth_config")
    return rows.filter(user=subject.user, server=subject.server).first()


def _shown(server: Server, key: OwnKey | None) -> dict[str, Any]:
    mine = my_own_keys.shown(server, key)
    return {
        "server": server,
        "state": mine.state,
        "detail": mine.missing.sentence if mine.missing is not None else "",
        "asks_for": [_asked(one) for one in own_keys.asked_of(server)],
        "set_by": key.set_by if key is not None else "",
        "comment": key.comment if key is not None else "",
        "expires_at": key.expires_at if key is not None else None,
        "last_used_at": key.last_used_at if key is not None else None,
        "updated_at": key.updated_at if key is not None else None,
    }


def _asked(placeholder: Placeholder) -> dict[str, str]:
    return {"name": placeholder.name, "label": placeholder.label, "header": placeholder.header}
