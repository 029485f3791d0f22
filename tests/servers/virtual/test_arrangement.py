"""Definitions under the names of a virtual server."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from servers.catalogue.digests import compact
from servers.catalogue.facts import CatalogueFacts
from servers.items import Item, ItemKind
from servers.virtual.arrangement import arrange
from servers.virtual.facts import MemberFacts, Selection

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}


@pytest.mark.requirement("F-605")
@pytest.mark.parametrize(
    "definition",
    [
        {"name": "find", "description": "Finds.", "inputSchema": SCHEMA},
        {"name": "find"},
        {"description": "Finds.", "inputSchema": SCHEMA, "name": "find"},
        {"name": 'a "quoted" naïve\n\\name', "title": "ä"},
        {"name": "find", "annotations": {"name": "find"}, "_meta": {"x": 1e-7}},
    ],
)
def test_a_definition_gets_its_new_name_and_stays_the_same_otherwise(definition: dict[str, Any]) -> None:
    key, member, selection = definition["name"], uuid4(), Selection(name="other")
    item = Item(ItemKind.TOOL, key)
    texts = {(ItemKind.TOOL, key): compact(definition)}
    catalogue = CatalogueFacts(member, 1, taken=True, items={(ItemKind.TOOL, key): item}, texts=texts)
    facts = MemberFacts(member, member, "m", selections={(ItemKind.TOOL, key): selection})
    (entry,) = arrange([(facts, catalogue)]).entries[ItemKind.TOOL]
    assert entry.text == compact({**definition, "name": "other"})
    assert list(json.loads(entry.text)) == list(definition)
