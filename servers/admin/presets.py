"""The gallery of presets, one preset's page, and the form of a new server that begins with one."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, path, reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from servers.admin.base import AuditedAdmin
from servers.links import admin_url
from servers.models import Server
from servers.presets.filling import initial_values
from servers.presets.library import find, presets, search
from servers.presets.preset import CALLBACK, CATEGORIES, Preset, Way

_WORDS: Final = {
    "none": "No Auth",
    "shared_header": "One key for all",
    "own_header": "Own key each",
    "oauth2": "Each connects",
}


class PresetPages(AuditedAdmin):
    """Mixed into the admin page of servers, before its form."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("presets/", view(require_safe(self.presets_view)), name="servers_server_presets"),
            path("presets/<slug:slug>/", view(require_safe(self.preset_view)), name="servers_server_preset"),
            *super().get_urls(),
        ]

    def presets_view(self, request: HttpRequest) -> HttpResponse:
        """All presets, or those that a search and a category leave."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        words, category = request.GET.get("q", "")[:100], request.GET.get("category", "")
        used = set(self.scope(request).visible_servers().exclude(preset="").values_list("preset", flat=True))
        cards = [_card(preset, used) for preset in search(words, category=category)]
        present = {preset.category for preset in presets().values()}
        context = {
            "cards": cards,
            "words": words,
            "category": category,
            "categories": [one for one in CATEGORIES if one in present],
        }
        return self._preset_page(request, "gallery.html", "Add from a preset", context)

    def preset_view(self, request: HttpRequest, slug: str) -> HttpResponse:
        """What is known of one server, and what to do before its form can be saved."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        preset = find(slug)
        if preset is None:
            raise Http404
        context = {
            "preset": preset,
            "ways": [_shown(preset, way) for way in preset.ways],
            "callback_url": callback_url(),
        }
        return self._preset_page(request, "preset.html", preset.name, context)

    def _preset_page(self, request: HttpRequest, template: str, title: str, context: dict[str, Any]) -> HttpResponse:
        request.current_app = self.admin_site.name
        shared = {**self.admin_site.each_context(request), "title": title, "opts": self.opts}
        return TemplateResponse(request, f"admin/servers/presets/{template}", {**shared, **context})

    # --- the form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        found = chosen(request)
        return super().get_changeform_initial_data(request) if found is None else initial_values(*found)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        server: Server | None = kwargs.get("obj")
        found = chosen(request) if server is None else _of_server(server)
        if found is not None:
            context |= {"preset": found[0], "preset_way": _shown(*found), "new_from_preset": server is None}
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Server, form: Any, change: bool) -> None:
        found = None if change else chosen(request)
        if found is not None:
            obj.preset = found[0].slug
        super().save_model(request, obj, form, change)


def chosen(request: HttpRequest) -> tuple[Preset, Way] | None:
    """The preset and the way that the address of a new server's form names."""
    preset = find(request.GET.get("preset", ""))
    return None if preset is None else (preset, preset.way(request.GET.get("way", "")))


def callback_url() -> str:
    """The gateway's own callback, to be entered at providers."""
    try:
        return f"{settings.PUBLIC_URL}{reverse('oauth2-callback')}"
    except NoReverseMatch:  # the pages of that package are not served here
        return ""


def preset_url(preset: Preset) -> str:
    """The page of one preset."""
    return reverse("admin:servers_server_preset", args=[preset.slug])


def _of_server(server: Server) -> tuple[Preset, Way] | None:
    preset = find(server.preset)
    if preset is None:
        return None
    config = getattr(server, "auth_config", None)
    ways = [way for way in preset.ways if config is not None and way.method == config.method]
    return preset, ways[0] if ways else preset.ways[0]


def _card(preset: Preset, used: set[str]) -> dict[str, Any]:
    methods = dict.fromkeys(_WORDS[way.method] for way in preset.ways)
    return {"preset": preset, "url": preset_url(preset), "methods": list(methods), "added": preset.slug in used}


def _shown(preset: Preset, way: Way) -> dict[str, Any]:
    """A way as pages show it, with our callback in its steps."""
    query = urlencode({"preset": preset.slug, "way": way.key})
    own = callback_url()
    return {
        "way": way,
        "steps": [step.partition(CALLBACK) for step in way.steps],
        "callback_url": own,
        "use_url": f"{admin_url(Server, 'add')}?{query}",
        "fields": _fields(way),
    }


def _fields(way: Way) -> list[tuple[str, str]]:
    """What the form will be filled with, besides name and URL."""
    rows = [("Endpoint URL", way.url)] if way.url else []
    rows.append(("Authentication type", str(way.method.label)))
    if way.discover:
        rows.append(("Provider", "Press Discover in the form: it is read from the server's own metadata."))
    rows += [(words, str(way.oauth[name])) for name, words in _OAUTH_WORDS.items() if way.oauth.get(name)]
    rows += [(words, yes) for name, (words, yes) in _OAUTH_OFF.items() if way.oauth.get(name) is False]
    for name, words in (
        ("authorize_parameters", "Extra sign-in parameters"),
        ("token_parameters", "Extra token parameters"),
    ):
        rows += [(words, f"{key}: {value}") for key, value in way.oauth.get(name, {}).items()]
    if way.scopes:
        rows.append(("Scopes", " ".join(way.scopes)))
    rows += [(f"Header {name}", text) for name, text in way.headers]
    return rows


_OAUTH_WORDS: Final = {
    "issuer": "Issuer",
    "authorization_endpoint": "Authorization endpoint",
    "token_endpoint": "Token endpoint",
    "revocation_endpoint": "Revocation endpoint",
}
_OAUTH_OFF: Final = {
    "pkce": ("PKCE", "Left out: the provider refuses it"),
    "send_resource": ("resource", "Left out: the provider refuses it"),
}
