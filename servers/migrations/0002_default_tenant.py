from __future__ import annotations

from django.db import migrations


def create(apps, schema_editor):
    apps.get_model("servers", "Tenant").objects.get_or_create(slug="default", defaults={"name": "Default"})
    apps.get_model("servers", "AuditHead").objects.get_or_create(id=1)


class Migration(migrations.Migration):
    dependencies = [("servers", "0001_tables")]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
