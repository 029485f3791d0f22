"""`manage.py verify_audit`: walk the audit chain, print its head, name every break."""

from __future__ import annotations

import argparse
import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from servers import audit
from servers.models import AuditEvent, AuditHead


def _head(text: str) -> tuple[int, str]:
    match = re.fullmatch(r"(\d+):([0-9a-f]{64})", text)
    if match is None:
        raise argparse.ArgumentTypeError("write <sequence>:<hash>, as this command printed it before")
    return int(match[1]), match[2]


class Command(BaseCommand):
    help = (
        "Verify the audit chain. Prints the head as <sequence>:<hash>; keep it elsewhere and give it back "
        "with --expect, which shows that nothing up to there was cut off or written anew. "
        "Exits with 1 on any break."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--expect", type=_head, metavar="SEQUENCE:HASH", help="a head that an earlier run printed")

    def handle(self, *args: Any, expect: tuple[int, str] | None = None, **options: Any) -> None:
        head = AuditHead.objects.filter(id=1).first() or AuditHead()
        breaks = [f"event {found.sequence}: {found.reason}" for found in audit.verify()]
        if expect is not None and (missing := _missing(*expect)):
            breaks.append(missing)
        self.stdout.write(f"{head.sequence}:{head.hash}")
        if breaks:
            raise CommandError("The audit chain does not hold.\n" + "\n".join(f"  {line}" for line in breaks))
        self.stdout.write(f"The audit chain holds: {head.sequence} event(s).")


def _missing(sequence: int, expected_hash: str) -> str:
    """What is wrong with the row that was the head at an earlier run, or an empty text."""
    if sequence == 0:
        return "" if expected_hash == audit.FIRST_HASH else "event 0: not the start of a chain"
    event = AuditEvent.objects.filter(sequence=sequence).first()
    if event is None:
        return f"event {sequence}: expected, but not there"
    return "" if event.hash == expected_hash else f"event {sequence}: not the one that was expected"
