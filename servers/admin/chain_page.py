"""Check the audit chain in the browser: a piece with each request, so that a chain of any length has time enough."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib import messages
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from servers import audit
from servers.admin.base import actor_of
from servers.audit import Action, Walked
from servers.models import AuditEvent, AuditHead

PIECE: Final = 2000
"""Rows in one request: a fraction of a second."""
_NAMED: Final = 20
_SALT: Final = "audit chain"
_LONGEST_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Check:
    """A finished check, as the trail has it. Who made it is not said: they may be of another tenant."""

    at: datetime
    events: int
    breaks: int
    named: list[str]
    """The first breaks, in words."""
    head: str
    """To be kept elsewhere: the last row as `verify_audit --expect` takes it."""


@dataclass(frozen=True, slots=True)
class _Walk:
    """A check under way."""

    last: Walked
    breaks: int
    named: list[str]

    def sealed(self, person_id: Any) -> str:
        # Signed for one person, or a finished check could be made up.
        values = [self.last.sequence, self.last.hash, self.breaks, self.named, person_id]
        return signing.dumps(values, salt=_SALT, compress=True)


def last_check() -> Check | None:
    """The result of the newest check in a browser; None when there was none."""
    event = AuditEvent.objects.filter(action=str(Action.CHAIN_VERIFY)).order_by("-at").first()
    if event is None:
        return None
    detail = event.detail
    return Check(event.at, detail["events"], detail["breaks"], detail["named"], detail["head"])


def chain_view(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """GET: the last result and a button. POST: the next piece; its answer leads to the one after, or to the result.

    A script asks for JSON and goes on by itself; without it the page has a button for each piece.
    """
    page = reverse("admin:servers_auditevent_verify")
    wants_json = request.headers.get("accept") == "application/json"
    walk = _Walk(Walked(), 0, [])
    if request.method == "POST":
        try:
            walk = _opened(request.POST.get("walk", ""), request.user.pk)
        except signing.BadSignature:
            sentence = "The check was begun too long ago, or by somebody else. Begin again."
            if wants_json:
                return JsonResponse({"detail": sentence}, status=409)
            messages.error(request, sentence)
            return HttpResponseRedirect(page)
        walk, done = _go_on(walk)
        if done:
            _record(request, walk)
            return JsonResponse({"done": page}) if wants_json else HttpResponseRedirect(page)
    head = AuditHead.objects.filter(id=1).values_list("sequence", flat=True).first() or 0
    state = {"checked": walk.last.sequence, "of": max(head, walk.last.sequence), "breaks": walk.breaks}
    if wants_json:
        return JsonResponse({**state, "walk": walk.sealed(request.user.pk)})
    under_way = walk.last.sequence > 0
    context |= {
        "title": "Check the audit chain",
        "check": last_check(),
        "walk": walk.sealed(request.user.pk) if under_way else "",
        "state": state,
        "under_way": under_way,
    }
    return TemplateResponse(request, "admin/gatehouse/chain.html", context)


def _opened(text: str, person_id: Any) -> _Walk:
    if not text:
        return _Walk(Walked(), 0, [])
    sequence, last_hash, breaks, named, owner = signing.loads(text, salt=_SALT, max_age=_LONGEST_SECONDS)
    if owner != person_id:
        raise signing.BadSignature
    return _Walk(Walked(sequence, last_hash), breaks, named)


def _go_on(walk: _Walk) -> tuple[_Walk, bool]:
    """One piece further; a short rest is walked to its end at once."""
    piece = audit.verify_piece(walk.last, limit=PIECE)
    broken = piece.broken
    if not piece.done and piece.last.sequence - walk.last.sequence < PIECE:
        piece = audit.verify_piece(piece.last, limit=PIECE)
        broken = [*broken, *piece.broken]
    words = [f"event {found.sequence}: {found.reason}" for found in broken]
    return _Walk(piece.last, walk.breaks + len(words), [*walk.named, *words][:_NAMED]), piece.done


def _record(request: HttpRequest, walk: _Walk) -> None:
    audit.record(
        Action.CHAIN_VERIFY,
        actor=actor_of(request),
        subject="audit chain",
        detail={
            "events": walk.last.sequence,
            "breaks": walk.breaks,
            "named": walk.named,
            "head": f"{walk.last.sequence}:{walk.last.hash}",
        },
    )
