"""What follows from a request that reached a member: there may be something to hear there from now on."""

from __future__ import annotations

from proxy.engine import pooled_sessions
from proxy.engine.engaged import Engaged
from proxy.engine.legacy_sessions import session_name
from proxy.engine.member_call import MemberCall


def met(engaged: Engaged, member_call: MemberCall) -> None:
    """The member has taken a request of this client."""
    client, session, engine = engaged.client, member_call.session, engaged.runtime.engine
    if client.session:
        for stream in engine.streams.get(client.session, ()):
            stream.met(member_call.member, modern=member_call.modern)
    elif session is not None:
        name = session_name(client, member_call.prepared, member_call.member)
        pooled_sessions.used(engaged, member_call.member, name, session)
        for listen in tuple(engine.listening):
            listen.met(member_call.member, name)
