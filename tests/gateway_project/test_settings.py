"""A setting that is missing, weak, misspelt or wrong stops the start with a sentence that names it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway_project.keys import KEY_RING_FILE, SECRET_KEY_FILE, make_ring_key, write_missing_keys

ROOT = Path(__file__).resolve().parents[2]
IMPORT = ("-c", "import gateway_project.settings")


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """A data folder with good key files."""
    write_missing_keys(tmp_path / "data")
    return tmp_path / "data"


def start(
    folder: Path, settings: Mapping[str, str], command: tuple[str, ...] = IMPORT
) -> subprocess.CompletedProcess[str]:
    """Run Python in an environment of exactly these settings."""
    environment = {"PATH": os.defpath, "GATEHOUSE_DATA_DIR": str(folder), **settings}
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refusal(folder: Path, **settings: str) -> str:
    """The last line of what a start with these settings says, which must be a refusal."""
    result = start(folder, settings)
    assert result.returncode != 0, "it started"
    last = result.stderr.strip().splitlines()[-1]
    assert "ImproperlyConfigured" in last
    return last


def test_a_start_needs_nothing_but_the_key_files(data_folder: Path) -> None:
    assert start(data_folder, {}).returncode == 0


@pytest.mark.requirement("F-805")
@pytest.mark.parametrize(
    ("missing", "named"), [(SECRET_KEY_FILE, "GATEHOUSE_SECRET_KEY"), (KEY_RING_FILE, "GATEHOUSE_KEY_RING")]
)
def test_a_missing_key_stops_the_start(data_folder: Path, missing: str, named: str) -> None:
    (data_folder / missing).unlink()
    said = refusal(data_folder)
    assert f"{named} is not set" in said
    assert "python -m gateway_project.keys" in said


@pytest.mark.parametrize(
    "weak",
    [
        "short",
        "a" * 80,
        "abcabcabc" * 10,
        "django-insecure-1q2w3e4r5t6y7u8i9o0pASDFGHJKLZXCVBNMqwertyuiop",
        "changeme-1q2w3e4r5t6y7u8i9o0pASDFGHJKLZXCVBNMqwertyuiopasdfgh",
        "my-Sample-key-1q2w3e4r5t6y7u8i9o0pASDFGHJKLZXCVBNMqwertyuiopas",
    ],
)
@pytest.mark.requirement("F-805")
def test_a_weak_or_sample_signing_key_stops_the_start(data_folder: Path, weak: str) -> None:
    said = refusal(data_folder, GATEHOUSE_SECRET_KEY=weak)
    assert "GATEHOUSE_SECRET_KEY is too weak or a sample" in said
    assert weak not in said


@pytest.mark.parametrize(
    "ring",
    [
        "no-colon",
        "k1:not base64!",
        "k1:c2hvcnQ",
        "k1:" + "A" * 43,
        "k1:" + "QUJD" * 10 + "QUI",
        ",",
        "bad id:" + "A" * 43,
    ],
)
@pytest.mark.requirement("F-404", "F-805")
def test_a_weak_or_malformed_key_ring_stops_the_start(data_folder: Path, ring: str) -> None:
    assert "GATEHOUSE_KEY_RING" in refusal(data_folder, GATEHOUSE_KEY_RING=ring)


@pytest.mark.requirement("F-404")
def test_two_ring_keys_of_the_same_name_stop_the_start(data_folder: Path) -> None:
    one, other = make_ring_key(), make_ring_key()
    same_name = f"{one.partition(':')[0]}:{other.partition(':')[2]}"
    said = refusal(data_folder, GATEHOUSE_KEY_RING=f"{one},{same_name}")
    assert "two keys have the same id" in said


def test_a_refused_key_is_never_shown(data_folder: Path) -> None:
    key = make_ring_key()
    result = start(data_folder, {"GATEHOUSE_KEY_RING": f"{key},{key}"})
    assert result.returncode != 0
    assert key.partition(":")[2] not in result.stderr


def test_a_secret_in_the_environment_and_in_a_file_at_once_stops_the_start(data_folder: Path) -> None:
    said = refusal(data_folder, GATEHOUSE_KEY_RING=make_ring_key(), GATEHOUSE_KEY_RING_FILE="/some/file")
    assert "Both GATEHOUSE_KEY_RING and GATEHOUSE_KEY_RING_FILE are set" in said


def test_a_secret_can_come_from_a_file(data_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "ring"
    path.write_text(make_ring_key() + "\n")
    (data_folder / KEY_RING_FILE).unlink()
    assert start(data_folder, {"GATEHOUSE_KEY_RING_FILE": str(path)}).returncode == 0


def test_a_secret_file_that_is_not_there_stops_the_start(data_folder: Path) -> None:
    said = refusal(data_folder, DATABASE_URL_FILE="/nowhere/database-url")
    assert "DATABASE_URL is not set" in said
    assert "/nowhere/database-url" in said


@pytest.mark.parametrize("name", ["GATEHOUSE_PUBLIC_ULR", "GATEHOUSE_SECRETKEY", "GATEHOUSE_"])
def test_an_unknown_setting_stops_the_start(data_folder: Path, name: str) -> None:
    said = refusal(data_folder, **{name: "x"})
    assert said.endswith(f"Unknown settings in the environment: {name}.")


def test_a_clients_key_in_the_same_shell_does_not_stop_the_start(data_folder: Path) -> None:
    assert start(data_folder, {"GATEHOUSE_KEY": "ghk_something"}).returncode == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEHOUSE_DEBUG", "yes"),
        ("GATEHOUSE_DEBUG", "True"),
        ("GATEHOUSE_BEHIND_TLS_PROXY", "1"),
        ("GATEHOUSE_LOG_LEVEL", "LOUD"),
        ("GATEHOUSE_MAX_REQUEST_BYTES", "4MB"),
        ("GATEHOUSE_MAX_REQUEST_BYTES", "1023"),
        ("GATEHOUSE_MAX_STREAM_SECONDS", "-1"),
        ("GATEHOUSE_STREAM_KEEPALIVE_SECONDS", "0"),
        ("GATEHOUSE_CALL_QUEUE_SIZE", "1.5"),
        ("GATEHOUSE_PUBLIC_URL", "gatehouse.example.com"),
        ("GATEHOUSE_PUBLIC_URL", "https://gatehouse.example.com/"),
        ("GATEHOUSE_PUBLIC_URL", "https://gatehouse.example.com/base"),
        ("GATEHOUSE_PUBLIC_URL", "https://user@gatehouse.example.com"),
        ("GATEHOUSE_PUBLIC_URL", "https://gatehouse.example.com?x"),
        ("GATEHOUSE_PUBLIC_URL", "https://gatehouse.example.com:port"),
        ("GATEHOUSE_PUBLIC_URL", "ftp://gatehouse.example.com"),
        ("GATEHOUSE_PUBLIC_URL", " https://gatehouse.example.com"),
        ("DATABASE_URL", "mysql://localhost/gatehouse"),
        ("DATABASE_URL", "not a url"),
    ],
)
def test_a_wrong_value_stops_the_start(data_folder: Path, name: str, value: str) -> None:
    assert name in refusal(data_folder, **{name: value})


@pytest.mark.requirement("F-209")
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"GATEHOUSE_SSO_CLIENT_ID": "x"}, "GATEHOUSE_SSO_PRESET"),
        ({"GATEHOUSE_SSO_PRESET": "google"}, "GATEHOUSE_SSO_CLIENT_ID"),
        ({"GATEHOUSE_SSO_PRESET": "okta", "GATEHOUSE_SSO_CLIENT_ID": "x"}, "GATEHOUSE_SSO_ISSUER"),
        ({"GATEHOUSE_SSO_PRESET": "facebook"}, "GATEHOUSE_SSO_PRESET"),
        ({"GATEHOUSE_SSO_PRESET": "google", "GATEHOUSE_SSO_CLIENT_ID": "x", "GATEHOUSE_SSO_SLUG": "A b"}, "SLUG"),
        ({"GATEHOUSE_SSO_PRESET": "google", "GATEHOUSE_SSO_CREATION": "all"}, "GATEHOUSE_SSO_CREATION"),
    ],
)
def test_half_an_identity_provider_stops_the_start(data_folder: Path, settings: dict[str, str], named: str) -> None:
    assert named in refusal(data_folder, **settings)


@pytest.mark.requirement("F-209")
def test_migrating_puts_the_declared_identity_provider_into_the_database(data_folder: Path) -> None:
    settings = {
        "GATEHOUSE_SSO_PRESET": "google",
        "GATEHOUSE_SSO_CLIENT_ID": "our-client",
        "GATEHOUSE_SSO_CLIENT_SECRET": "canary-secret",
    }
    assert start(data_folder, settings, ("manage.py", "migrate", "-v0")).returncode == 0
    show = "from authflows.models import IdentityProvider as P; print(list(P.objects.values()))"
    shown = start(data_folder, settings, ("manage.py", "shell", "-v0", "-c", show)).stdout
    assert "our-client" in shown
    assert "https://accounts.google.com" in shown
    assert "canary-secret" not in shown


@pytest.mark.parametrize("host", ["gatehouse.example.com", "10.0.0.5", "0.0.0.0", "localhost.example.com"])
@pytest.mark.requirement("F-805")
def test_plain_http_is_for_this_machine_alone(data_folder: Path, host: str) -> None:
    said = refusal(data_folder, GATEHOUSE_PUBLIC_URL=f"http://{host}")
    assert "GATEHOUSE_PUBLIC_URL" in said
    assert "Use https" in said


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost:8000", "[::1]:8000"])
def test_plain_http_on_this_machine_starts(data_folder: Path, host: str) -> None:
    assert start(data_folder, {"GATEHOUSE_PUBLIC_URL": f"http://{host}"}).returncode == 0


@pytest.mark.requirement("F-805")
def test_debug_with_a_public_https_address_stops_the_start(data_folder: Path) -> None:
    said = refusal(data_folder, GATEHOUSE_DEBUG="true", GATEHOUSE_PUBLIC_URL="https://gatehouse.example.com")
    assert "GATEHOUSE_DEBUG" in said


@pytest.mark.requirement("F-401", "T55")
@pytest.mark.parametrize("name", ["GATEHOUSE_KEY_RING", "GATEHOUSE_SECRET_KEY", "DATABASE_URL"])
def test_the_gateways_own_secrets_cannot_be_opened_to_references(data_folder: Path, name: str) -> None:
    assert name in refusal(data_folder, GATEHOUSE_SECRET_ENV=f"FINE,{name}")
    assert start(data_folder, {"GATEHOUSE_SECRET_ENV": "FINE"}).returncode == 0


@pytest.mark.requirement("F-401", "T55")
def test_the_folder_of_the_keys_cannot_be_opened_to_references(data_folder: Path) -> None:
    for folder in (data_folder, data_folder.parent, Path("/")):
        assert "GATEHOUSE_SECRET_DIRS" in refusal(data_folder, GATEHOUSE_SECRET_DIRS=f"/run/secrets,{folder}")
    assert start(data_folder, {"GATEHOUSE_SECRET_DIRS": str(data_folder / "mounted")}).returncode == 0


@pytest.mark.parametrize(
    "origin",
    [
        "https://gw.example.com/",
        "https://gw.example.com/path",
        "https://gw.example.com?",
        "https://gw.example.com#",
        "https://user@gw.example.com",
        "https://:word@gw.example.com",
        "https://gw.example.com:99999",
        "https://gw.example.com:0",
        "https://gw example.com",
        "https://gw.example.com\\@evil.example",
        "HTTPS://gw.example.com",
        "https://",
        "gw.example.com",
    ],
)
def test_a_public_url_that_is_not_an_origin_stops_the_start(data_folder: Path, origin: str) -> None:
    assert "GATEHOUSE_PUBLIC_URL" in refusal(data_folder, GATEHOUSE_PUBLIC_URL=origin)


def test_a_command_ends_in_one_sentence_without_a_traceback(data_folder: Path) -> None:
    result = start(data_folder, {"GATEHOUSE_DEBUG": "maybe"}, ("manage.py", "check"))
    assert result.returncode != 0
    assert result.stdout == ""
    assert result.stderr == "Gatehouse cannot start: GATEHOUSE_DEBUG is 'maybe'; use one of true, false.\n"


# --- The deployment check -------------------------------------------------------------------------

DEPLOY = ("manage.py", "check", "--deploy", "--fail-level", "WARNING")


@pytest.mark.requirement("F-805")
def test_the_deployment_check_is_clean_with_an_https_address(data_folder: Path) -> None:
    result = start(data_folder, {"GATEHOUSE_PUBLIC_URL": "https://gatehouse.example.com"}, DEPLOY)
    assert result.returncode == 0, result.stderr
    assert "no issues" in result.stdout + result.stderr


def test_the_deployment_check_fails_on_plain_http(data_folder: Path) -> None:
    result = start(data_folder, {}, DEPLOY)
    assert result.returncode != 0
    assert "gateway.W001" in result.stderr


@pytest.mark.requirement("F-805")
@pytest.mark.parametrize("name", [SECRET_KEY_FILE, KEY_RING_FILE])
def test_a_key_file_that_others_can_read_stops_the_start(data_folder: Path, name: str) -> None:
    (data_folder / name).chmod(0o640)
    result = start(data_folder, {}, ("manage.py", "check"))
    assert result.returncode != 0
    assert "gateway.E001" in result.stderr
    assert f"chmod 600 {data_folder / name}" in result.stderr


def test_a_missing_data_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    keys = {
        "GATEHOUSE_SECRET_KEY": "Zq3v9Lk2Xw7Ty1Bn5Mc8Rd4Fg6Hj0Ps-Uo_Ia2Ee9Yt3Kx7Vb1Nz5",
        "GATEHOUSE_KEY_RING": make_ring_key(),
    }
    result = start(folder, keys, ("manage.py", "check"))
    assert result.returncode != 0
    assert "gateway.E002" in result.stderr
    assert str(folder) in result.stderr


# --- Key files ------------------------------------------------------------------------------------


@pytest.mark.requirement("F-805")
def test_key_files_are_for_their_owner_only_and_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    made = write_missing_keys(folder)
    before = {path: path.read_text() for path in made}

    assert [path.stat().st_mode & 0o777 for path in made] == [0o600, 0o600]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert write_missing_keys(folder) == []
    assert {path: path.read_text() for path in made} == before
