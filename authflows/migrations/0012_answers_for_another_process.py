# Answers of clients that came to another process than the one that waits for them.

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("authflows", "0011_trips_through_virtual_servers")]

    operations = [
        migrations.CreateModel(
            name="PassedAnswer",
            fields=[
                ("digest", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("sealed", models.TextField(editable=False)),
                ("expires_at", models.DateTimeField(db_index=True)),
            ],
            options={"ordering": ("expires_at",)},
        ),
    ]
