"""Filters of the records' pages: one form above the list, of texts, choices and times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, ClassVar, Final

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime

from servers.audit import TROUBLES, Action
from servers.models import IS_ERROR, AuditEvent, Call, Server
from servers.scope import Scope, scope_of_request

_RECENT: Final = 5000
_SUGGESTED: Final = 100
_SERVERS: Final = 500

Option = tuple[str, str]


class FormFilter(admin.SimpleListFilter):
    """One field of the form. What cannot be understood finds nothing and says why: it is never left out silently."""

    kind: ClassVar[str] = "choice"
    """How the field looks: choice, text or time."""
    problem = ""

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.options = self.find_options(request, model_admin)
        self.chosen = str(self.value() or "")

    def has_output(self) -> bool:
        return True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[Option]:
        return []

    def find_options(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Sequence[Option]]]:
        """What can be chosen, or is suggested: groups with their heading, empty for none."""
        return []

    def choices(self, changelist: Any) -> Iterator[Any]:
        return iter(())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return self.narrow(queryset, self.chosen) if self.chosen else queryset

    def narrow(self, rows: QuerySet[Any], chosen: str) -> QuerySet[Any]:
        """The rows that were asked for; may set `problem`."""
        raise NotImplementedError


def _recent(model_admin: Any, request: HttpRequest, name: str) -> list[Option]:
    # Looking through a large table for all of them would take long.
    newest = model_admin.get_queryset(request).order_by("-pk" if model_admin.model is Call else "-sequence")
    values = sorted({value for value in newest.values_list(name, flat=True)[:_RECENT] if value})
    return [(value, value) for value in values[:_SUGGESTED]]


class PersonFilter(FormFilter):
    """The whole name, in any case; the search finds parts of it."""

    title, parameter_name, kind = "Person or program", "person", "text"
    field: ClassVar[str]

    def find_options(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Sequence[Option]]]:
        return [("", _recent(model_admin, request, self.field))]

    def narrow(self, rows: QuerySet[Any], chosen: str) -> QuerySet[Any]:
        return rows.filter(**{f"{self.field}__iexact": chosen.strip()})


class ActorFilter(PersonFilter):
    field = "actor"


class PrincipalFilter(PersonFilter):
    field = "principal"


def _servers(scope: Scope) -> QuerySet[Server]:
    found = Server.objects.all()
    return found if scope.superuser else found.filter(tenant__in=scope.recorded_tenants)


class ServerFilter(FormFilter):
    """The servers of the tenants whose records the person reads."""

    title, parameter_name = "Server", "server"

    def find_options(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Sequence[Option]]]:
        servers = _servers(scope_of_request(request)).order_by("name").values_list("pk", "name")[:_SERVERS]
        return [("", [(str(pk), name) for pk, name in servers])]

    def narrow(self, rows: QuerySet[Any], chosen: str) -> QuerySet[Any]:
        known = dict(option for _, group in self.options for option in group)
        if chosen not in known:
            self.problem = "There is no such server any more. Search for its name."
            return rows.none()
        return self.about(rows, chosen, known[chosen])

    def about(self, rows: QuerySet[Any], server_id: str, name: str) -> QuerySet[Any]:
        """The rows about one server."""
        return rows.filter(server_id=server_id)


class EventServerFilter(ServerFilter):
    """Events of the server itself, and of what is called after it: rules, connections, keys."""

    def about(self, rows: QuerySet[AuditEvent], server_id: str, name: str) -> QuerySet[AuditEvent]:
        return rows.filter(
            Q(subject_id=server_id) | Q(subject__endswith=f" {name}") | Q(subject__startswith=f"{name} ")
        )


class EventFilter(FormFilter):
    """One event, or all about one subject."""

    title, parameter_name = "Event", "event"

    def find_options(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Sequence[Option]]]:
        def subject(action: str) -> str:
            return action.partition(":")[0]

        groups = []
        for name, actions in groupby(sorted(Action), key=subject):
            words = name.replace("_", " ")
            each = [(str(action), action.partition(":")[2].replace("_", " ")) for action in actions]
            groups.append((words, [(f"{name}:", f"{words}: everything"), *((v, f"{words}: {w}") for v, w in each)]))
        return groups

    def narrow(self, rows: QuerySet[AuditEvent], chosen: str) -> QuerySet[AuditEvent]:
        if chosen.endswith(":"):
            return rows.filter(action__startswith=chosen)
        return rows.filter(action=chosen)


class EventOutcomeFilter(FormFilter):
    """Whether something was done, or refused, failed or lost."""

    title, parameter_name = "Outcome", "outcome"

    def find_options(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Sequence[Option]]]:
        return [("", [("done", "Done"), ("trouble", "Refused, failed or lost")])]

    def narrow(self, rows: QuerySet[AuditEvent], chosen: str) -> QuerySet[AuditEvent]:
        troubles = [str(action) for action in TROUBLES]
        return rows.filter(action__in=troubles) if chosen == "trouble" else rows.exclude(action__in=troubles)


class RecentFilter(FormFilter):
    """The values that the newest rows have."""

    def find_options(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Sequence[Option]]]:
        return [("", _recent(model_admin, request, str(self.parameter_name)))]

    def narrow(self, rows: QuerySet[Any], chosen: str) -> QuerySet[Any]:
        return rows.filter(**{str(self.parameter_name): chosen})


class CallOutcomeFilter(RecentFilter):
    title, parameter_name = "Outcome", "outcome"

    def find_options(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Sequence[Option]]]:
        return [("", [("errors", "All with errors")]), *super().find_options(request, model_admin)]

    def narrow(self, rows: QuerySet[Call], chosen: str) -> QuerySet[Call]:
        return rows.filter(IS_ERROR) if chosen == "errors" else super().narrow(rows, chosen)


class DecisionFilter(RecentFilter):
    title, parameter_name = "Decision", "decision"


class MethodFilter(RecentFilter):
    title, parameter_name = "Method", "method"


class _TimeFilter(FormFilter):
    kind = "time"

    def narrow(self, rows: QuerySet[Any], chosen: str) -> QuerySet[Any]:
        at = _instant(chosen)
        if at is None:
            self.problem = "Write a date and a time, such as 2026-03-14T15:00."
            return rows.none()
        return self.limit(rows, at)

    def limit(self, rows: QuerySet[Any], at: datetime) -> QuerySet[Any]:
        """The rows on the right side of a time."""
        raise NotImplementedError


class SinceFilter(_TimeFilter):
    title, parameter_name = "From (UTC)", "since"

    def limit(self, rows: QuerySet[Any], at: datetime) -> QuerySet[Any]:
        return rows.filter(at__gte=at)


class UntilFilter(_TimeFilter):
    title, parameter_name = "Until (UTC)", "until"

    def limit(self, rows: QuerySet[Any], at: datetime) -> QuerySet[Any]:
        return rows.filter(at__lt=at)


def _instant(text: str) -> datetime | None:
    try:
        found = parse_datetime(text.strip() if "T" in text or " " in text.strip() else f"{text.strip()}T00:00")
    except ValueError:  # the 30th of February
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
