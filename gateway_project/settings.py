"""Every setting of Gatehouse, in sections. Each is an environment variable, read once, documented in
docs/configuration.md (a test compares the two). Unknown names and values stop the start.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from gateway_project import keys
from gateway_project.env import (
    env_bool,
    env_choice,
    env_int,
    env_list,
    env_origin,
    env_secret,
    env_text,
    refuse_unknown,
)

VERSION = "0.1.0"
BASE_DIR = Path(__file__).resolve().parent.parent

# --- Where things are ---------------------------------------------------------------------------

DATA_DIR = Path(env_text("GATEHOUSE_DATA_DIR", str(BASE_DIR / "var")))
PUBLIC_URL = env_origin("GATEHOUSE_PUBLIC_URL", "http://127.0.0.1:8000")
_public = urlsplit(PUBLIC_URL)
PUBLIC_HOST = _public.hostname or ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


HTTPS = _public.scheme == "https"
if not HTTPS and not _is_loopback(PUBLIC_HOST):
    raise ImproperlyConfigured(
        f"GATEHOUSE_PUBLIC_URL is {PUBLIC_URL!r}: plain http is for this machine alone. Use https."
    )

# --- Keys (promise 8: no sample or weak key is accepted) ------------------------------------------

SECRET_KEY = keys.checked_secret_key(env_secret("GATEHOUSE_SECRET_KEY", DATA_DIR / keys.SECRET_KEY_FILE))
KEY_RING = keys.checked_key_ring(env_secret("GATEHOUSE_KEY_RING", DATA_DIR / keys.KEY_RING_FILE))

# What `env://` and `file://` references may read; without these they are refused.
SECRET_ENVIRONMENT = frozenset(env_list("GATEHOUSE_SECRET_ENV"))
SECRET_FOLDERS = [Path(folder) for folder in env_list("GATEHOUSE_SECRET_DIRS")]
if _own := sorted(name for name in SECRET_ENVIRONMENT if name.startswith("GATEHOUSE_") or name == "DATABASE_URL"):
    raise ImproperlyConfigured(f"GATEHOUSE_SECRET_ENV lists {_own[0]}: the gateway's own secrets stay here.")
if any(DATA_DIR.resolve().is_relative_to(folder.resolve()) for folder in SECRET_FOLDERS):
    raise ImproperlyConfigured("GATEHOUSE_SECRET_DIRS lists a folder that holds the gateway's own keys.")

# --- Hosts and origins ----------------------------------------------------------------------------

DEBUG = env_bool("GATEHOUSE_DEBUG", False)
if DEBUG and HTTPS:
    raise ImproperlyConfigured("GATEHOUSE_DEBUG=true shows internals; it works only with a loopback public URL.")
_loopback_names = ["127.0.0.1", "localhost", "[::1]"] if _is_loopback(PUBLIC_HOST) else []
_public_name = f"[{PUBLIC_HOST}]" if ":" in PUBLIC_HOST else PUBLIC_HOST
ALLOWED_HOSTS = list(dict.fromkeys([_public_name, *_loopback_names, *env_list("GATEHOUSE_ALLOWED_HOSTS")]))
ALLOWED_ORIGINS = [PUBLIC_URL, *env_list("GATEHOUSE_ALLOWED_ORIGINS")]
BEHIND_TLS_PROXY = env_bool("GATEHOUSE_BEHIND_TLS_PROXY", False)
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

# --- Applications ---------------------------------------------------------------------------------

INSTALLED_APPS = [
    "proxy",  # before Daphne, whose `runserver` it replaces with one that waits for slow clients
    "daphne",
    "gateway_project.apps.GatehouseAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "oauth2_provider",
    "social_django",
    "servers",
    "authflows",
    "gateway_project.apps.GatewayProjectConfig",
]
MIDDLEWARE = [
    "gateway_project.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "gateway_project.middleware.SecurityHeadersMiddleware",
    "gateway_project.middleware.StaticFilesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "gateway_project.urls"
ASGI_APPLICATION = "gateway_project.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Database -------------------------------------------------------------------------------------

DATABASE_URL = env_secret("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'gatehouse.sqlite3'}")


def _database(url: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = dict(dj_database_url.parse(url))
    except (ValueError, KeyError) as error:
        raise ImproperlyConfigured("DATABASE_URL is not a database URL (sqlite:///… or postgres://…).") from error
    engine = config["ENGINE"].rpartition(".")[2]
    if engine == "sqlite3":
        # IMMEDIATE: a transaction that will write waits for the lock at its start instead of failing half-way.
        pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=10000;"
        config["OPTIONS"] = {"init_command": pragmas, "transaction_mode": "IMMEDIATE", "timeout": 10}
    elif engine == "postgresql":
        # A server that is gone without a word is noticed within seconds, not when TCP gives up after hours.
        alive = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
        alive["tcp_user_timeout"] = 10_000
        pool = {"min_size": 1, "max_size": 16, "timeout": 10}
        config["OPTIONS"] = {**alive, **config.get("OPTIONS", {}), "pool": pool}
    else:
        raise ImproperlyConfigured("DATABASE_URL: Gatehouse runs on SQLite or PostgreSQL.")
    return config


DATABASES = {"default": _database(DATABASE_URL)}

# --- People and sessions --------------------------------------------------------------------------

LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "portal"
LOGOUT_REDIRECT_URL = "sign-in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
# The first hashes passwords. The last is for secrets that we make ourselves: see there.
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "authflows.inbound.oauth.client_secrets.RandomSecretHasher",
]
SESSION_ENGINE = "authflows.session_store"
SESSION_COOKIE_NAME = "__Host-gatehouse" if HTTPS else "gatehouse"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_NAME = "__Host-gatehouse-csrf" if HTTPS else "gatehouse-csrf"
CSRF_COOKIE_SECURE = HTTPS
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"

# --- Authorization server: clients that sign people in (authflows/inbound) ---------------------------

ACCESS_TOKEN_SECONDS = env_int("GATEHOUSE_ACCESS_TOKEN_SECONDS", 15 * 60, minimum=60)
REFRESH_TOKEN_SECONDS = env_int("GATEHOUSE_REFRESH_TOKEN_SECONDS", 30 * 24 * 3600, minimum=3600)
OAUTH2_PROVIDER_APPLICATION_MODEL = "authflows.OAuthClient"
OAUTH2_PROVIDER = {
    "OAUTH2_VALIDATOR_CLASS": "authflows.inbound.oauth.validator.Validator",
    "OIDC_ISS_ENDPOINT": PUBLIC_URL,
    # `offline_access` says nothing to us, but clients that asked for it want to see it granted.
    "SCOPES": {"mcp": "Use MCP servers", "offline_access": "Stay signed in"},
    "DEFAULT_SCOPES": ["mcp"],
    "ALLOWED_REDIRECT_URI_SCHEMES": ["https"],  # each client's own are narrower: OAuthClient.get_allowed_schemes
    "ALLOW_LOCALHOST_LOOPBACK": True,
    "ACCESS_TOKEN_EXPIRE_SECONDS": ACCESS_TOKEN_SECONDS,
    "REFRESH_TOKEN_EXPIRE_SECONDS": REFRESH_TOKEN_SECONDS,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    "CLIENT_SECRET_HASHER": "sha256_of_random",
    # Told from keys and JWTs by their shape.
    "ACCESS_TOKEN_GENERATOR": "authflows.inbound.oauth.tokens.new_access_token",
    "REFRESH_TOKEN_GENERATOR": "authflows.inbound.oauth.tokens.new_refresh_token",
    "PKCE_REQUIRED": True,
    "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
    "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
    "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
    "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
    "COMPLIANT_BCP_RFC9700_REFRESH_TOKEN": True,
    "COMPLIANT_BCP_RFC9700_REDIRECT_URI_SCHEME": True,
    "COMPLIANT_BCP_RFC9700_REDIRECT_URI_MATCHING": True,
    "COMPLIANT_BCP_RFC9700_PKCE_REQUIRED": True,
}

# --- One identity provider of the operator's (authflows/inbound/identity/sso_settings.py) ---------------------


def _sso() -> dict[str, Any] | None:
    presets = ("", "google", "microsoft", "okta", "keycloak", "github", "oidc")
    preset = env_choice("GATEHOUSE_SSO_PRESET", "", presets)
    values: dict[str, Any] = {
        "slug": env_text("GATEHOUSE_SSO_SLUG", "sso"),
        "name": env_text("GATEHOUSE_SSO_NAME", ""),
        "issuer": env_text("GATEHOUSE_SSO_ISSUER", ""),
        "client_id": env_text("GATEHOUSE_SSO_CLIENT_ID", ""),
        "client_secret": env_secret("GATEHOUSE_SSO_CLIENT_SECRET", default=""),
        "creation": env_choice("GATEHOUSE_SSO_CREATION", "nobody", ("nobody", "domains", "groups", "anybody")),
        "allowed_domains": env_list("GATEHOUSE_SSO_DOMAINS"),
        "allowed_groups": env_list("GATEHOUSE_SSO_GROUPS"),
        "groups_claim": env_text("GATEHOUSE_SSO_GROUPS_CLAIM", ""),
        "username_claim": env_text("GATEHOUSE_SSO_USERNAME_CLAIM", ""),
        "extra_scopes": " ".join(env_list("GATEHOUSE_SSO_SCOPES")),
    }
    if not preset:
        if any(values[name] for name in ("name", "issuer", "client_id", "client_secret")):
            raise ImproperlyConfigured(
                f"GATEHOUSE_SSO_… is set without GATEHOUSE_SSO_PRESET: {', '.join(presets[1:])}."
            )
        return None
    if not values["client_id"]:
        raise ImproperlyConfigured("GATEHOUSE_SSO_PRESET needs GATEHOUSE_SSO_CLIENT_ID, from the provider.")
    if not values["issuer"] and preset not in ("google", "github"):
        raise ImproperlyConfigured(f"GATEHOUSE_SSO_PRESET={preset} needs GATEHOUSE_SSO_ISSUER, the provider's URL.")
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,28}[a-z0-9])?", values["slug"]):
        raise ImproperlyConfigured("GATEHOUSE_SSO_SLUG: use up to 30 small letters, digits and hyphens.")
    return {"preset": preset, **values}


SSO = _sso()

# --- Browser security -----------------------------------------------------------------------------

SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS_PROXY else None
SECURE_HSTS_SECONDS = 31536000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# The name and shape of Django 6's setting, so that our middleware can be dropped there.
SECURE_CSP = {
    "default-src": ["'self'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
    "object-src": ["'none'"],
    "img-src": ["'self'", "data:"],
    # Sounds that a tool answered, in the playground.
    "media-src": ["'self'", "data:"],
}

# --- Language, time, static files -----------------------------------------------------------------

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "gateway_project" / "static"]
# Read straight from the packages: nothing to collect before the first start.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

PAGE_BODY_SECONDS = env_int("GATEHOUSE_PAGE_BODY_SECONDS", 30, minimum=1)

# --- The path of a call ---------------------------------------------------------------------------

MAX_REQUEST_BYTES = env_int("GATEHOUSE_MAX_REQUEST_BYTES", 4 * 1024 * 1024, minimum=1024)
MAX_RESPONSE_BYTES = env_int("GATEHOUSE_MAX_RESPONSE_BYTES", 64 * 1024 * 1024, minimum=1024)
MAX_STREAM_SECONDS = env_int("GATEHOUSE_MAX_STREAM_SECONDS", 24 * 3600, minimum=60)
STREAM_KEEPALIVE_SECONDS = env_int("GATEHOUSE_STREAM_KEEPALIVE_SECONDS", 15, minimum=1)
STALLED_CLIENT_SECONDS = env_int("GATEHOUSE_STALLED_CLIENT_SECONDS", 120, minimum=1)
MAX_STREAMS_PER_CALLER = env_int("GATEHOUSE_MAX_STREAMS_PER_CALLER", 64, minimum=1)
SESSION_LIFETIME_SECONDS = env_int("GATEHOUSE_SESSION_LIFETIME_SECONDS", 24 * 3600, minimum=60)
MEMBER_SESSION_IDLE_SECONDS = env_int("GATEHOUSE_MEMBER_SESSION_IDLE_SECONDS", 600, minimum=10)
UPSTREAM_IDLE_SECONDS = env_int("GATEHOUSE_UPSTREAM_IDLE_SECONDS", 4, minimum=1)
CATALOGUE_SECONDS = env_int("GATEHOUSE_CATALOGUE_SECONDS", 15 * 60, minimum=60)
BREAKER_FAILURES = env_int("GATEHOUSE_BREAKER_FAILURES", 5, minimum=1)
BREAKER_WINDOW_SECONDS = env_int("GATEHOUSE_BREAKER_WINDOW_SECONDS", 30, minimum=1)
BREAKER_OPEN_SECONDS = env_int("GATEHOUSE_BREAKER_OPEN_SECONDS", 10, minimum=1)
BREAKER_LONGEST_SECONDS = env_int("GATEHOUSE_BREAKER_LONGEST_SECONDS", 60, minimum=1)
SLOW_SECONDS = env_int("GATEHOUSE_SLOW_SECONDS", 10, minimum=1)
MODEL_SILENCE_SECONDS = env_int("GATEHOUSE_MODEL_SILENCE_SECONDS", 120, minimum=1)

# --- Records and logs -----------------------------------------------------------------------------

CALL_QUEUE_SIZE = env_int("GATEHOUSE_CALL_QUEUE_SIZE", 50_000, minimum=100)
LOG_LEVEL = env_choice("GATEHOUSE_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
LOG_CALLS = env_bool("GATEHOUSE_LOG_CALLS", False)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"redact": {"()": "gateway_project.logging.RedactSecrets"}},
    "formatters": {"json": {"()": "gateway_project.logging.JsonFormatter"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "json", "filters": ["redact"]},
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # Requests that Django refuses are the caller's mistakes; a warning each would drown ours.
        "django.request": {"level": "ERROR"},
        # Call records take its place (and it would print credentials that somebody put into a URL).
        "uvicorn.access": {"level": "CRITICAL", "propagate": False},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        # Its debug messages hold codes and tokens.
        "oauthlib": {"level": "WARNING"},
    },
}

refuse_unknown()
