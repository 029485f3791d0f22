from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('servers', '0005_credential_of_a_member_has_an_origin'),
    ]

    operations = [
        migrations.AddField(
            model_name='catalogue',
            name='fingerprint',
            field=models.CharField(blank=True, default='', editable=False, max_length=64),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='catalogue',
            name='offered_instructions',
            field=models.TextField(blank=True, default='', editable=False),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='catalogue',
            name='emptied',
            field=models.JSONField(default=list, editable=False),
        ),
        migrations.AddField(
            model_name='catalogueitem',
            name='refused',
            field=models.CharField(blank=True, default='', editable=False, max_length=64),
            preserve_default=False,
        ),
    ]
