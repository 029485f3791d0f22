"""What a virtual server's members shall be, as pages and commands say it, and what is wrong with that. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator

from servers.catalogue.facts import CatalogueFacts
from servers.header_auth import HeaderChoice
from servers.items import ItemKey, ItemKind
from servers.models.catalogue import LONGEST_KEY
from servers.models.virtual import ALIAS, NAME, VirtualMember
from servers.virtual.arrangement import NAMED, Entry, LeftOut, arrange
from servers.virtual.facts import MemberFacts, Selection

Show = VirtualMember.Show
LONGEST_ALIAS: Final = 24
LONGEST_DESCRIPTION: Final = 4000
_MOST_NAMED: Final = 20
KIND_OF_SHOW: Final = {
    ItemKind.TOOL: "tools",
    ItemKind.PROMPT: "prompts",
    ItemKind.RESOURCE: "resources",
    ItemKind.TEMPLATE: "resources",
}
"""Which of a member's three settings says whether everything of a kind is shown."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One member as it shall be. Its place among the others is its order."""

    server_id: UUID
    alias: str | None = None
    """None: made of the server's slug."""
    tools: str = Show.ALL
    prompts: str = Show.ALL
    resources: str = Show.ALL
    selections: Mapping[ItemKey, Selection] = field(default_factory=dict)
    headers: tuple[HeaderChoice, ...] | None = field(default=None, repr=False)
    """The credential for all callers: empty for none, None for the one that it has."""

    def shows_all(self, kind: ItemKind) -> bool:
        """Whether everything of this kind is shown, also what comes later."""
        return bool(getattr(self, KIND_OF_SHOW[kind]) == Show.ALL)

    def facts(self) -> MemberFacts:
        """The same as the engine would see it, with the server's id in place of the member's."""
        return MemberFacts(
            self.server_id,
            self.server_id,
            self.alias or "",
            frozenset(kind for kind in ItemKind if self.shows_all(kind)),
            self.selections,
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """Why it cannot be saved. `member` names the server that it is about; `collision` the two items."""

    text: str
    member: UUID | None = None
    collision: LeftOut | None = None


def default_alias(slug: str, *, taken: Collection[str] = ()) -> str:
    """A prefix made of a server's slug, at most 24 characters, other than those that are taken."""
    base = re.sub(r"[-_]+", "_", slug)
    number, alias = 1, base[:LONGEST_ALIAS].rstrip("_")
    while alias in taken:
        number += 1
        tail = f"_{number}"
        alias = base[: LONGEST_ALIAS - len(tail)].rstrip("_") + tail
    return alias


def problems_of(
    members: Sequence[Wanted], *, names: Mapping[UUID, str], catalogues: Mapping[UUID, CatalogueFacts]
) -> list[Problem]:
    """Everything for which a save is refused. `names` and `catalogues` are those of the servers, by id."""
    if not members:
        return [Problem("A virtual server needs at least one member.")]
    found: list[Problem] = []
    by_alias: dict[str, UUID] = {}
    seen: set[UUID] = set()
    for member in members:
        name, alias = names.get(member.server_id, "A server"), member.alias or ""
        if member.server_id in seen:
            found.append(Problem(f"{name} stands twice among the members.", member.server_id))
            continue
        seen.add(member.server_id)
        if alias and (len(alias) > LONGEST_ALIAS or not _fits(ALIAS, alias)):
            found.append(Problem(f"The prefix of {name} cannot be used. {ALIAS.message}", member.server_id))
        if (other := by_alias.setdefault(alias, member.server_id)) != member.server_id:
            what = f"the prefix “{alias}”" if alias else "no prefix"
            text = f"{names.get(other, 'A server')} and {name} both have {what}: give one of them another one."
            found.append(Problem(text, member.server_id))
        found += [Problem(f"{name}: {text}", member.server_id) for text in _problems_of_selections(member)]
    return found or _collisions(members, names, catalogues)


def _problems_of_selections(member: Wanted) -> Iterable[str]:
    for (kind, key), selection in member.selections.items():
        if len(key) > LONGEST_KEY or "\0" in key + selection.description:
            yield "an item has a name or description that cannot be stored."
        elif len(selection.description) > LONGEST_DESCRIPTION:
            yield f"the description of “{key}” is longer than {LONGEST_DESCRIPTION} characters."
        elif selection.name and kind not in NAMED:
            yield f"“{key}” keeps its URI: only tools and prompts can have a name of their own."
        elif selection.name and not _fits(NAME, selection.name):
            yield f"“{selection.name}” cannot be the name of “{key}”. {NAME.message}"


def _fits(validator: RegexValidator, text: str) -> bool:
    try:
        validator(text)
    except ValidationError:
        return False
    return True


def _collisions(
    members: Sequence[Wanted], names: Mapping[UUID, str], catalogues: Mapping[UUID, CatalogueFacts]
) -> list[Problem]:
    arranged = arrange([(member.facts(), catalogues[member.server_id]) for member in members])
    return [
        Problem(_collision(one, names), one.entry.member.server_id, one)
        for one in arranged.left_out
        if one.entry.item.kind in NAMED
    ]


def _collision(one: LeftOut, names: Mapping[UUID, str]) -> str:
    kind = one.entry.item.kind.label.lower()
    fix = (
        "Give one of them a name of its own, or leave one out."
        if one.entry.member.server_id == one.keeps.member.server_id
        else "Give one of the members another prefix or one of them a name of its own, or leave one out."
    )
    return (
        f"The {kind} “{one.keeps.item.key}” of {_of(one.keeps, names)} and the {kind} “{one.entry.item.key}” of "
        f"{_of(one.entry, names)} would both be called “{one.entry.name}”. {fix}"
    )


def warnings_of(
    members: Sequence[Wanted], *, names: Mapping[UUID, str], catalogues: Mapping[UUID, CatalogueFacts]
) -> list[str]:
    """What can be saved and should be known: URIs that two members have."""
    arranged = arrange([(member.facts(), catalogues[member.server_id]) for member in members])
    by_pair: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in arranged.left_out:
        if one.entry.item.kind not in NAMED:
            by_pair[_of(one.keeps, names), _of(one.entry, names)].append(one.entry.name)
    return [
        f"{first} and {second} have the same {_listed(uris)}: reads go to {first}, which stands earlier."
        for (first, second), uris in by_pair.items()
    ]


def _of(entry: Entry, names: Mapping[UUID, str]) -> str:
    return names.get(entry.member.server_id, "a member")


def _listed(uris: list[str]) -> str:
    if len(uris) == 1:
        return f"resource {uris[0]}"
    more = f" and {len(uris) - _MOST_NAMED} more" if len(uris) > _MOST_NAMED else ""
    return f"{len(uris)} resources ({', '.join(uris[:_MOST_NAMED])}{more})"
