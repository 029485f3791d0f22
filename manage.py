#!/usr/bin/env python
"""Django's command line for Gatehouse; `manage.py help` lists the commands."""

from __future__ import annotations

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    """Run one command. A setting that is missing or wrong ends in one sentence; --traceback shows where."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(f"Gatehouse cannot start: {error}")


if __name__ == "__main__":
    main()
