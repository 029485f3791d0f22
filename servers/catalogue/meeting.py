"""One offered definition meets what the catalogue has of it: what becomes of the item. Writes nothing."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from servers.catalogue.checks import Checked
from servers.catalogue.digests import digest, same
from servers.catalogue.policy import Outcome, Policy, outcome
from servers.models.catalogue import CatalogueItem

State = CatalogueItem.State


class Meeting(StrEnum):
    """What happened."""

    SAME = "same"
    """Nothing that anybody has to hear of; the row may differ all the same."""
    ADDED = "added"
    CHANGED = "changed"
    """Another definition, accepted."""
    HELD = "held"
    """A new item or another definition, which somebody has to look at."""
    RETURNED = "returned"
    """It was gone and is offered again as it was approved."""
    UNSERVABLE = "unservable"


def meet(item: CatalogueItem, offer: Checked, *, is_new: bool, policy: Policy) -> Meeting:
    """Bring `item` up to date with the offer under this policy.

    What was approved stays until something else is accepted. A definition that was refused is refused again, and
    what comes after a refusal waits for somebody, whatever the policy. What cannot be served is never approved.
    """
    if offer.problem:
        return _unservable(item, offer, is_new)
    before = State(item.state)
    had_problem, item.problem = bool(item.problem), ""
    if item.approved and same(item.approved, offer.text):
        item.state, item.offered = State.APPROVED, item.approved
        return Meeting.RETURNED if before is State.GONE else Meeting.SAME
    if item.refused and digest(offer.text) == item.refused:
        item.state, item.offered = State.REFUSED, offer.text
        return Meeting.SAME
    if before in (State.HELD, State.REFUSED) and not is_new and not had_problem and same(item.offered, offer.text):
        return Meeting.SAME
    accepted = (
        before is not State.REFUSED and outcome(policy, _read(item.approved), _read(offer.text)) is Outcome.ACCEPT
    )
    meeting = Meeting.HELD if not accepted else Meeting.CHANGED if item.approved else Meeting.ADDED
    item.offered = offer.text
    item.state = State.APPROVED if accepted else State.HELD
    if accepted:
        item.approved = offer.text
    return meeting


def _unservable(item: CatalogueItem, offer: Checked, is_new: bool) -> Meeting:
    told = not is_new and item.problem == offer.problem and item.state != State.GONE
    if item.approved and same(item.approved, offer.text):
        item.approved = ""  # accepted before this was known to be one
    if item.state != State.REFUSED or not same(item.offered, offer.text):
        item.state = State.HELD
    item.offered, item.problem = offer.text, offer.problem
    return Meeting.SAME if told else Meeting.UNSERVABLE


def _read(text: str) -> Any:
    return json.loads(text) if text else None
