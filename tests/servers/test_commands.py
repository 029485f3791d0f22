"""The operator's commands: rotate_keys, verify_audit, prune."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from authflows.models import OneTimeLink, SignInSession
from gateway_project.keys import make_ring_key
from servers import audit
from servers.models import AuditEvent, AuditHead, Call, Change, StoredSecret
from servers.sealing import KeyRing, sealed_with
from servers.secrets.store import open_secret, set_secret
from servers.tenancy import default_tenant

pytestmark = pytest.mark.django_db


def run(*command: str, **options: Any) -> str:
    """What the command printed."""
    out = io.StringIO()
    call_command(*command, stdout=out, **options)
    return out.getvalue()


def ring(*entries: str) -> KeyRing:
    return KeyRing.parse(",".join(entries))


def store(key: str, value: str) -> StoredSecret:
    return set_secret(tenant=default_tenant(), group="test", key=key, value=value, actor="test")


def write_events(count: int) -> None:
    for number in range(count):
        audit.record(audit.Action.SERVER_TEST, actor="test", subject=f"event {number}")


# --- rotate_keys ----------------------------------------------------------------------------------


@pytest.mark.requirement("F-404", "SE-2")
def test_after_a_rotation_secrets_open_without_the_old_key(settings: Any) -> None:
    old, new = make_ring_key(), make_ring_key()
    settings.KEY_RING = ring(old)
    secret = store("token", "canary-value")

    settings.KEY_RING = ring(new, old)
    assert "Sealed anew" in run("rotate_keys")

    settings.KEY_RING = ring(new)
    secret.refresh_from_db()
    assert open_secret(secret) == "canary-value"


@pytest.mark.requirement("F-404")
def test_a_rotation_says_which_key_nothing_needs_any_more(settings: Any) -> None:
    old, new = make_ring_key(), make_ring_key()
    old_id, new_id = (key.partition(":")[0] for key in (old, new))
    settings.KEY_RING = ring(old)
    store("one", "1")
    store("two", "2")

    settings.KEY_RING = ring(new, old)
    printed = run("rotate_keys")

    assert f"Sealed anew with key {new_id}: 2" in printed
    assert f"Stored secrets under key {new_id}: 2" in printed
    assert f"needs key {old_id} any more" in printed


@pytest.mark.requirement("F-404")
def test_a_second_rotation_changes_nothing(settings: Any) -> None:
    old, new = make_ring_key(), make_ring_key()
    settings.KEY_RING = ring(old)
    secret = store("token", "value")
    settings.KEY_RING = ring(new, old)
    run("rotate_keys")
    secret.refresh_from_db()

    assert ": 0\n" in run("rotate_keys")
    assert StoredSecret.objects.get(pk=secret.pk).sealed_value == secret.sealed_value


@pytest.mark.requirement("F-404")
def test_a_secret_whose_key_is_missing_is_named_and_holds_up_no_other(settings: Any) -> None:
    lost, old, new = make_ring_key(), make_ring_key(), make_ring_key()
    settings.KEY_RING = ring(lost)
    store("lost", "1")
    settings.KEY_RING = ring(old)
    kept = store("kept", "2")
    settings.KEY_RING = ring(new, old)

    with pytest.raises(CommandError, match="secret://default:test:lost"):
        run("rotate_keys")

    kept.refresh_from_db()
    assert sealed_with(kept.sealed_value) == new.partition(":")[0]


@pytest.mark.requirement("F-404", "F-801")
def test_a_rotation_is_audited_without_any_value(settings: Any) -> None:
    settings.KEY_RING = ring(make_ring_key())
    store("token", "canary-value")
    run("rotate_keys")

    event = AuditEvent.objects.get(action=audit.Action.KEYS_ROTATE)
    assert event.detail == {"sealed_anew": 0, "unopened": 0}
    assert "canary-value" not in str(list(AuditEvent.objects.values()))


@pytest.mark.requirement("F-404")
def test_a_rotation_tells_other_processes_to_forget_the_secret(settings: Any) -> None:
    old, new = make_ring_key(), make_ring_key()
    settings.KEY_RING = ring(old)
    secret = store("token", "value")
    before = Change.objects.filter(kind="secret", key=secret.fqn).count()
    settings.KEY_RING = ring(new, old)
    run("rotate_keys")

    assert Change.objects.filter(kind="secret", key=secret.fqn).count() == before + 1


# --- verify_audit ---------------------------------------------------------------------------------


@pytest.mark.requirement("F-801")
def test_an_untouched_chain_holds_and_its_head_is_printed() -> None:
    write_events(3)
    head = AuditHead.objects.get(id=1)

    assert run("verify_audit").splitlines()[0] == f"{head.sequence}:{head.hash}"


@pytest.mark.requirement("F-801")
def test_an_empty_chain_holds() -> None:
    assert run("verify_audit").startswith("0:")


@pytest.mark.requirement("F-801")
@pytest.mark.parametrize(
    "changed",
    [{"actor": "somebody else"}, {"detail": {"x": 1}}, {"action": "server:delete"}, {"subject": "other"}],
)
def test_a_changed_event_is_found(changed: dict[str, Any]) -> None:
    write_events(3)
    AuditEvent._base_manager.filter(sequence=2).update(**changed)

    with pytest.raises(CommandError, match="event 2: content was changed"):
        run("verify_audit")


@pytest.mark.requirement("F-801")
def test_a_moved_time_is_found() -> None:
    write_events(1)
    AuditEvent._base_manager.filter(sequence=1).update(at=timezone.now() - timedelta(days=1))

    with pytest.raises(CommandError, match="event 1: content was changed"):
        run("verify_audit")


@pytest.mark.requirement("F-801")
def test_a_changed_event_with_a_new_hash_of_its_own_is_found_at_the_next() -> None:
    write_events(3)
    event = AuditEvent.objects.get(sequence=2)
    event.actor = "somebody else"
    AuditEvent._base_manager.filter(sequence=2).update(actor=event.actor, hash=audit.event_hash(event))

    with pytest.raises(CommandError, match="event 3: does not follow"):
        run("verify_audit")


@pytest.mark.requirement("F-801")
def test_a_removed_event_is_found() -> None:
    write_events(3)
    AuditEvent._base_manager.filter(sequence=2)._raw_delete("default")

    with pytest.raises(CommandError, match="event 2: row missing"):
        run("verify_audit")


@pytest.mark.requirement("F-801")
def test_removed_newest_events_are_found_by_the_head() -> None:
    write_events(3)
    AuditEvent._base_manager.filter(sequence=3)._raw_delete("default")

    with pytest.raises(CommandError, match="event 3: the newest rows are missing"):
        run("verify_audit")


@pytest.mark.requirement("F-801")
def test_a_removed_head_is_found() -> None:
    write_events(2)
    AuditHead.objects.all().delete()

    with pytest.raises(CommandError, match="the head names another row"):
        run("verify_audit")


@pytest.mark.requirement("F-801")
def test_a_chain_cut_off_together_with_its_head_is_found_by_a_head_kept_elsewhere() -> None:
    write_events(3)
    kept = run("verify_audit").splitlines()[0]
    AuditEvent._base_manager.filter(sequence=3)._raw_delete("default")
    last = AuditEvent.objects.get(sequence=2)
    AuditHead.objects.filter(id=1).update(sequence=2, hash=last.hash)

    run("verify_audit")  # by itself the shorter chain holds
    with pytest.raises(CommandError, match="event 3: expected, but not there"):
        run("verify_audit", f"--expect={kept}")


@pytest.mark.requirement("F-801")
def test_a_chain_written_anew_is_found_by_a_head_kept_elsewhere() -> None:
    write_events(2)
    kept = run("verify_audit").splitlines()[0]
    AuditEvent._base_manager.all()._raw_delete("default")
    AuditHead.objects.filter(id=1).update(sequence=0, hash=audit.FIRST_HASH)
    write_events(2)

    run("verify_audit")
    with pytest.raises(CommandError, match="event 2: not the one that was expected"):
        run("verify_audit", f"--expect={kept}")


@pytest.mark.requirement("F-801")
def test_a_head_kept_elsewhere_is_found_again_in_a_longer_chain() -> None:
    write_events(2)
    kept = run("verify_audit").splitlines()[0]
    write_events(2)

    assert "holds: 4" in run("verify_audit", f"--expect={kept}")


@pytest.mark.parametrize("text", ["5", "5:abc", "-1:" + "0" * 64, "x:" + "0" * 64])
def test_a_malformed_expected_head_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="sequence"):
        run("verify_audit", f"--expect={text}")


# --- prune ----------------------------------------------------------------------------------------


def a_call(*, days: float) -> Call:
    return Call.objects.create(
        at=timezone.now() - timedelta(days=days),
        request_id="r",
        tenant="default",
        server="calculator",
        http_method="POST",
        decision="allowed",
        status=200,
        outcome="ok",
        bytes_in=1,
        bytes_out=1,
        milliseconds=1,
    )


def test_prune_keeps_ninety_days_of_call_records() -> None:
    old, young = a_call(days=90.5), a_call(days=89.5)
    assert "call records: 1 deleted" in run("prune")

    assert list(Call.objects.all()) == [young]
    assert not Call.objects.filter(pk=old.pk).exists()


def test_prune_keeps_as_many_days_as_it_is_told() -> None:
    a_call(days=8)
    young = a_call(days=6)
    run("prune", "--days=7")

    assert list(Call.objects.all()) == [young]


def test_prune_refuses_to_delete_every_call_record() -> None:
    with pytest.raises(CommandError, match="at least 1 day"):
        run("prune", "--days=0")


def test_prune_deletes_in_batches_until_nothing_old_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_project.management.commands.prune._BATCH", 2)
    for _ in range(5):
        a_call(days=100)

    assert "call records: 5 deleted" in run("prune")


def test_prune_keeps_a_day_of_changes_and_always_the_newest() -> None:
    Change.objects.all().delete()
    changes = [Change.objects.create(kind="user", key=str(number)) for number in range(3)]
    Change.objects.update(at=timezone.now() - timedelta(days=2))

    assert "changes: 2 deleted" in run("prune")
    assert list(Change.objects.all()) == [changes[-1]]


def test_prune_deletes_links_that_cannot_be_used_any_more() -> None:
    now = timezone.now()
    purpose = OneTimeLink.Purpose.FIRST_ADMIN
    later, earlier = now + timedelta(hours=1), now - timedelta(hours=1)
    OneTimeLink.objects.create(purpose=purpose, digest="used", expires_at=later, used_at=now)
    OneTimeLink.objects.create(purpose=purpose, digest="expired", expires_at=earlier)
    usable = OneTimeLink.objects.create(purpose=purpose, digest="usable", expires_at=later)
    run("prune")

    assert list(OneTimeLink.objects.all()) == [usable]


def test_prune_deletes_ended_sign_in_sessions_only() -> None:
    now = timezone.now()
    SignInSession.objects.create(digest="ended", expires_at=now - timedelta(seconds=1))
    SignInSession.objects.create(digest="open", expires_at=now + timedelta(hours=1))
    run("prune")

    assert [session.digest for session in SignInSession.objects.all()] == ["open"]


def test_prune_never_deletes_audit_events() -> None:
    write_events(2)
    AuditEvent._base_manager.update(at=timezone.now() - timedelta(days=4000))
    run("prune", "--days=1")

    assert AuditEvent.objects.count() == 2
