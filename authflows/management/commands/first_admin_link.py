"""`manage.py first_admin_link`: print the link that creates the first admin."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from authflows.inbound import first_admin


class Command(BaseCommand):
    help = "Print a link that works once, for 24 hours, and creates the first admin."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--quiet", action="store_true", help="Print the link alone, or nothing when an admin exists."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        quiet = options["quiet"]
        try:
            link = first_admin.make_link()
        except first_admin.AdminExists as error:
            if not quiet:
                self.stdout.write(error.public_message)
            return
        if quiet:
            self.stdout.write(link)
        else:
            self.stdout.write(
                "Open this link to create the first admin. It works once, for 24 hours; links printed "
                f"before have ended.\n\n  {link}\n"
            )
