from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("authflows", "0002_tables")]
    operations = [
        migrations.CreateModel(
            name="AttemptBucket",
            fields=[
                ("id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("full_at", models.DateTimeField(db_index=True)),
            ],
            options={"ordering": ("id",)},
        ),
    ]
