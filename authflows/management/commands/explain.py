"""`manage.py explain PERSON SERVER`: every step of the decision about a call, for the operator."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from authflows.explain import explain
from authflows.explaining.places import place_in, server_at
from authflows.explaining.steps import OPERATOR, Explanation, State, Step
from servers.items import ItemKey, ItemKind

_MARKS = {State.PASSED: "+", State.NOTED: "!", State.FAILED: "x", State.NOT_REACHED: " "}
_ITEMS = {"tool": ItemKind.TOOL, "prompt": ItemKind.PROMPT, "resource": ItemKind.RESOURCE}


class Command(BaseCommand):
    help = "Say what becomes of a person's call to a server, step by step, and what to do about it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("person", help="User name; virtual:… for a virtual account.")
        parser.add_argument("server", help="Its MCP URL, or tenant/server.")
        items = parser.add_mutually_exclusive_group()
        items.add_argument("--tool", default="", help="The tool that is called.")
        items.add_argument("--prompt", default="", help="The prompt that is asked for.")
        items.add_argument("--resource", default="", help="URI of the resource that is read.")
        parser.add_argument("--client", default="", help="Name of one of their keys, or of a client they approved.")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        person = get_user_model()._default_manager.filter(username=options["person"]).first()
        if person is None:
            raise CommandError(f"Nobody is called {options['person']}.")
        place = place_in(options["server"])
        server = server_at(place) if place is not None else None
        if server is None:
            raise CommandError(f"There is no server at {options['server']}. Write its MCP URL, or tenant/server.")
        item = next(((kind, options[word]) for word, kind in _ITEMS.items() if options[word]), None)
        told = explain(person, server, item=item, client=options["client"], reader=OPERATOR)
        if options["json"]:
            steps = [asdict(step) | {"title": step.title} for step in told.steps]
            report = {"person": told.person, "server": told.about, "allowed": told.allowed, "steps": steps}
            self.stdout.write(json.dumps(report, indent=2))
            return
        self.stdout.write(_first_line(told, item))
        for step in told.steps:
            self.stdout.write(_lines(step))


def _first_line(told: Explanation, item: ItemKey | None) -> str:
    may = "may" if told.allowed else "may not"
    what = f"call the {item[0].label.lower()} {item[1]} of" if item is not None else "use"
    return f"{told.person} {may} {what} {told.about}.\n"


def _lines(step: Step) -> str:
    code = f" ({step.code})" if step.code else ""
    lines = [f"[{_MARKS[step.state]}] {step.title}: {step.state_text.lower()}{code}"]
    lines += [f"      {text}" for text in step.found]
    if step.fix is not None:
        lines.append(f"   -> {step.fix.sentence}{f' {step.fix.url}' if step.fix.url else ''}")
    return "\n".join(lines)
