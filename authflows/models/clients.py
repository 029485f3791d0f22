"""OAuth clients that come to us, and what an operator allows them."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.db import models
from oauth2_provider.models import AbstractApplication

from authflows.inbound.oauth import known_clients, redirect_uris


def _texts(value: object) -> frozenset[str]:
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()


class OAuthClient(AbstractApplication):  # type: ignore[misc]
    """A program that asks people to let it in: registered by itself, by its metadata document, or by an admin.

    `name` is what it calls itself; nobody has checked it unless `verified`.
    """

    verified = models.BooleanField(default=False, help_text="An admin knows this client; its name is shown as checked.")
    enabled = models.BooleanField(default=True, help_text="A disabled client gets no sign-ins and no refreshes.")
    application_type = models.CharField(max_length=10, blank=True, editable=False)
    # Of what the client says about itself: an approval holds for exactly that (AZ-20), and a repeated
    # registration with the same metadata gets the same answer.
    metadata_digest = models.CharField(max_length=64, blank=True, editable=False, db_index=True)
    last_used_at = models.DateTimeField(null=True, editable=False)

    class Meta(AbstractApplication.Meta):  # type: ignore[misc]
        ordering = ("-created",)
        verbose_name = "OAuth client"

    def clean(self) -> None:
        """Nothing: what may stand in a client was decided by our rules when it was stored, not by the library's."""

    def is_usable(self, request: object) -> bool:
        """Whether the client may do anything at all; asked by the library at every step."""
        if self.registration_source == self.RegistrationSource.CIMD:
            return self.enabled and RegistrationPolicy.current().takes_document(self.client_id)
        return self.enabled

    def get_allowed_schemes(self) -> list[str]:
        """Schemes that its redirect URIs have. Which URIs may stand there was decided when they were stored."""
        return sorted({urlsplit(uri).scheme for uri in self.redirect_uris.split()})

    def redirect_uri_allowed(self, uri: str) -> bool:
        """Whether `uri` is one of its redirect URIs, by our rule (AZ-6) instead of the library's looser one."""
        return any(redirect_uris.matches(uri, registered) for registered in self.redirect_uris.split())

    @property
    def metadata_host(self) -> str:
        """Host of its metadata document: proven, unlike its name. Empty for other kinds of client."""
        if self.registration_source != self.RegistrationSource.CIMD:
            return ""
        return urlsplit(self.client_id).hostname or ""


class RegistrationPolicy(models.Model):
    """What clients may do to make themselves known; one row, made by a migration."""

    class MetadataDocuments(models.TextChoices):
        FETCH = "fetch", "Fetch them from their addresses; copies of well-known ones are built in"
        PINNED = "pinned", "Only the built-in copies (for networks without internet)"
        OFF = "off", "Off"

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    dynamic_registration = models.BooleanField(
        default=True, help_text="Clients may register themselves (RFC 7591). Most IDEs need it."
    )
    metadata_documents = models.CharField(
        max_length=10, choices=MetadataDocuments.choices, default=MetadataDocuments.FETCH
    )
    metadata_hosts = models.JSONField(
        default=list,
        blank=True,
        help_text="Hosts whose metadata documents are accepted, as a JSON list; “.example.com” takes subdomains too. "
        "Empty: every host.",
    )
    private_redirect_uris = models.JSONField(
        default=list,
        blank=True,
        help_text="Redirect URIs with a scheme of an application, as a JSON list of exact strings, for example "
        "cursor://anysphere.cursor-mcp/oauth/callback. Any program on a computer can claim such a scheme.",
    )
    registrations_per_hour = models.PositiveIntegerField(
        default=60, help_text="Of one address. A household or office counts as one."
    )
    most_unused_clients = models.PositiveIntegerField(
        default=5000, help_text="When so many registered clients were never used, further registrations wait."
    )
    unused_days = models.PositiveIntegerField(
        default=30, help_text="Days after which a registered client that was never used is removed."
    )

    class Meta:
        verbose_name = "registration policy"
        verbose_name_plural = "registration policy"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_registration_policy")]

    def __str__(self) -> str:
        return "How clients make themselves known"

    @classmethod
    def current(cls) -> RegistrationPolicy:
        """The row, or the defaults where there is none."""
        return cls.objects.filter(id=1).first() or cls()

    @property
    def private_uris(self) -> frozenset[str]:
        """The private redirect URIs that are allowed; nothing when the stored JSON is no list."""
        return _texts(self.private_redirect_uris)

    @property
    def takes_documents(self) -> bool:
        """Whether clients may be known by a metadata document at all."""
        return self.metadata_documents != self.MetadataDocuments.OFF

    def takes_host(self, host: str) -> bool:
        """Whether metadata documents of this host are accepted."""
        if not self.metadata_hosts:
            return True
        allowed = {text.strip().lower() for text in _texts(self.metadata_hosts)}
        return any(host == one.removeprefix(".") or (one[:1] == "." and host.endswith(one)) for one in allowed)

    def takes_document(self, url: str) -> bool:
        """Whether the client whose metadata document is at `url` may be known by it."""
        if not self.takes_documents or not self.takes_host(urlsplit(url).hostname or ""):
            return False
        return self.metadata_documents == self.MetadataDocuments.FETCH or url in known_clients.copies()
