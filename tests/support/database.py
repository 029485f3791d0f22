"""The test database: a file that threads and processes share, as migrated again after each test that committed."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.test import TransactionTestCase

from tests.support import environment

# Never changed by tests.
_KEPT = {"django_content_type", "auth_permission"}


def use_a_file() -> None:
    """Instead of memory. A power failure may cost a test database, so nothing waits for the disk."""
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        database.setdefault("TEST", {})["NAME"] = str(environment.FOLDER / "test.sqlite3")
        database["OPTIONS"]["init_command"] += " PRAGMA synchronous=OFF;"


@cache
def _tables() -> list[str]:
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return sorted(set(names) - _KEPT)


def _tables_with_rows() -> list[str]:
    quote = connection.ops.quote_name
    looks = (f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {quote(name)})" for name in _tables())
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(looks))
        return [name for (name,) in cursor.fetchall()]


def restore_after_tests() -> None:
    """After each test with `transactional_db`, bring back the rows that are here now.

    Django's flush visits or truncates every table, declares each permission anew and leaves what migrations wrote
    missing: tests would depend on their order, and on PostgreSQL wait for it most of the time.
    """
    filled = _tables_with_rows()
    migrated = {model: list(model._base_manager.all()) for model in apps.get_models() if model._meta.db_table in filled}

    def restore(_: TransactionTestCase) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            # In any order: foreign keys are checked at the end of the transaction.
            for name in _tables_with_rows():
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(name)}")
            for model, rows in migrated.items():
                model._base_manager.bulk_create(deepcopy(rows))

    TransactionTestCase._fixture_teardown = restore  # type: ignore[method-assign]
