"""In which era a member is asked."""

from __future__ import annotations

from proxy.engine.engaged import Engaged
from proxy.era_evidence import Eras
from proxy.era_probing import probe
from proxy.eras import known_of


async def member_is_modern(engaged: Engaged) -> bool:
    """Whether the member that was entered is asked in the modern era: in the client's own where it speaks both.

    A member that nobody has asked yet is asked first. One that gives no verdict gets a handshake.
    """
    prepared = engaged.call.prepared
    assert prepared is not None  # noqa: S101
    known = known_of(prepared)
    if known.evidence.modern is None:
        await probe(engaged.call, engaged.runtime, prepared)
    if known.eras is Eras.DUAL and known.evidence.legacy:
        return engaged.client.modern
    return known.evidence.modern is True
