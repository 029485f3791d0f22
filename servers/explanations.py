"""Why a decision was no, for the people who may know: managers and admins, never the caller. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from servers.access import Reason

_WHY: Final[Mapping[Reason, str]] = {
    Reason.INACTIVE: "The account is switched off. Switch it on under People, or under Virtual accounts.",
    Reason.OTHER_TENANT: "The account does not belong to the server's tenant. Add it there to let it in.",
    Reason.KEY_LIMITED: "The API key is limited to other servers. Its owner makes one for this server.",
    Reason.NO_RULE: "No rule lets the caller in. Add them, or a team of theirs, as a collaborator of the server or of "
    "its group.",
    Reason.RULE_EXPIRED: "The rule that let the caller in has ended. Change its end on the server's or group's page.",
    Reason.NOT_MANAGER: "Only a Manager may do this. Make the caller one on the page of the server or group.",
    Reason.SERVER_DISABLED: "The server is disabled. Enable it on its page.",
    Reason.ITEM_NOT_SERVED: "The server's catalogue does not serve this tool, prompt or resource: it is disabled, held "
    "for approval, refused or cannot be served, or the server did not offer it when it was last read. Its catalogue "
    "page says which.",
    Reason.NO_ITEM_RULE: "The caller may use the server, but every rule that lets them in is about other tools, "
    "prompts or resources. Change what they may use on the page of the server or group.",
}


def why(outcome: str) -> str:
    """The sentence for the outcome of a call; empty where it is no decision of ours about rights."""
    try:
        return _WHY[Reason(outcome)]
    except ValueError:
        return ""
