"""Reading everything that a server offers: tools, prompts, resources and templates, all pages, in the era it speaks.

It opens the server as Test connection does, so that one is the by-product of the other. Blocks; what came is checked
and kept by `servers.catalogue.taking`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy.probe import TOTAL_SECONDS, ProbeResult, Run, Target, probe
from proxy.probe_http import Failed, Step
from servers.catalogue.digests import compact
from servers.catalogue.readings import JsonText, NotRead, Reading
from servers.catalogue.taking import MOST_ITEMS
from servers.items import ItemKind
from servers.models import Server

MOST_BYTES: Final = 48 * 1024 * 1024
Eras = Server.Eras
_OTHER_LISTS: Final = (
    (ItemKind.PROMPT, "prompts/list", "prompts", "prompts"),
    (ItemKind.RESOURCE, "resources/list", "resources", "resources"),
    (ItemKind.TEMPLATE, "resources/templates/list", "resourceTemplates", "resource templates"),
)


def read(
    target: Target, *, known: Server.Eras = Eras.UNKNOWN, total_seconds: float = TOTAL_SECONDS
) -> Reading | NotRead:
    """Everything that the server offers to these headers; blocks for at most about `total_seconds`.

    With its eras `known` only one of them is tried, as long as it opens. Never raises for what the server does.
    """
    _, reading = probe_and_read(target, known=known, total_seconds=total_seconds)
    return reading


def probe_and_read(
    target: Target, *, known: Server.Eras = Eras.UNKNOWN, total_seconds: float = TOTAL_SECONDS
) -> tuple[ProbeResult, Reading | NotRead]:
    """A connection test that reads everything on the way; the test can succeed where the reading does not."""
    run = _ReadingRun(target, known)
    result = probe(target, total_seconds=total_seconds, run=run)
    if not result.ok:
        return result, NotRead(str(result.step), result.sentence)
    if run.failure is not None:
        return result, NotRead(str(run.failure.step), run.failure.sentence)
    if run.tools is None:
        return result, NotRead(str(Step.AUTHENTICATION), "The server asks for a credential, and there was none to use.")
    return result, run.reading(result)


class _ReadingRun(Run):
    """A connection test that keeps what it is listed."""

    most_bytes = MOST_BYTES

    @staticmethod
    def kept(item: Any) -> Any:
        """The item as text, where it has one: it is checked later, one after the other."""
        try:
            return JsonText(compact(item))
        except ValueError:
            return item

    def __init__(self, target: Target, known: Server.Eras) -> None:
        super().__init__(target)
        self.known = known
        self.opened: dict[str, Any] = {}
        self.offered: dict[ItemKind, tuple[Any, ...]] = {}
        self.failure: Failed | None = None
        """Why one of the other lists than the tools' could not be read."""

    def open(self) -> None:
        """Open in the eras that are not known; in all when it does not open as it should."""
        if self.known in (Eras.MODERN, Eras.DUAL) and self._modern_if_any():
            return
        if self.known == Eras.LEGACY:
            try:
                return self._legacy()
            except Failed as failure:
                if failure.step not in (Step.ANSWER, Step.OPENING):
                    raise
        super().open()

    def _look_at(self, opened: dict[str, Any], *, modern: bool, headers: dict[str, str]) -> None:
        tools = self._list_tools(opened, modern=modern, headers=headers)
        self.opened, self.offered = opened, {ItemKind.TOOL: tuple(tools)}
        count = self.tools = len(tools)
        try:
            for kind, method, member, called in _OTHER_LISTS:
                items = self._list(method, member, opened, Step.LISTS, modern=modern, headers=headers, called=called)
                self.offered[kind] = tuple(items)
                count += len(items)
                if count > MOST_ITEMS:
                    raise Failed(Step.LISTS, f"The server lists more than {MOST_ITEMS} items, so the reading stopped.")
        except Failed as failure:
            self.failure = failure

    def reading(self, result: ProbeResult) -> Reading:
        """What was read, after a test that succeeded."""
        instructions = self.opened.get("instructions")
        return Reading(
            offered=self.offered,
            capabilities=_object(self.opened.get("capabilities")),
            instructions=instructions if isinstance(instructions, str) else "",
            server_info={"name": self.name, "version": self.version},
            versions=result.versions,
            legacy_versions=result.legacy_versions,
            eras=Eras(result.eras),
            notes=tuple(self.notes),
        )


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
