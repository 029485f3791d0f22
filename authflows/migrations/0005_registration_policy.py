from __future__ import annotations

from django.db import migrations


def make_policy(apps, schema_editor):
    apps.get_model("authflows", "RegistrationPolicy").objects.get_or_create(id=1)


class Migration(migrations.Migration):
    dependencies = [("authflows", "0004_oauth_clients_approvals_identity_providers")]
    operations = [migrations.RunPython(make_policy, migrations.RunPython.noop)]
