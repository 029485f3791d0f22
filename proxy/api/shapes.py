"""What the Gateway API answers, and what it takes."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from proxy.api.operations import PageQuery, Taken


class ProblemShape(serializers.Serializer[Any]):
    """Problem details (RFC 9457). Some problems have members of their own besides."""

    type = serializers.URLField(help_text="An address that explains the problem.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="What happened and what to do next, in a sentence for people.")
    code = serializers.CharField(help_text="A stable word for programs.")
    request_id = serializers.CharField(help_text="Finds the request in the gateway's log and records.")
    fields = serializers.DictField(  # type: ignore[assignment]
        required=False, help_text="For bad input: for each field what is wrong with it."
    )
    connect_url = serializers.URLField(
        required=False, help_text="Where a person connects what is missing; good for 15 minutes, for them alone."
    )
    mcp_error = serializers.DictField(required=False, help_text="The JSON-RPC error of the MCP server, as it came.")


class ProblemTypeShape(serializers.Serializer[Any]):
    """What a code stands for."""

    code = serializers.CharField()
    status = serializers.IntegerField()
    title = serializers.CharField()
    meaning = serializers.CharField()


class MeShape(serializers.Serializer[Any]):
    """Who the gateway takes the caller for."""

    username = serializers.CharField()
    program = serializers.BooleanField(help_text="A virtual account, which nobody can sign in as.")
    credential = serializers.CharField(help_text="What opened the door: `session`, or `api_key:` with its id.")
    limited = serializers.BooleanField(help_text="The credential opens some servers only.")
    expires_at = serializers.DateTimeField(allow_null=True, help_text="When the credential ends; null: no end.")
    tenants = serializers.ListField(child=serializers.CharField(), help_text="Slugs of the tenants of the caller.")


class ServerRef(serializers.Serializer[Any]):
    """Which server something is about."""

    id = serializers.UUIDField(source="pk")
    tenant = serializers.CharField(source="tenant.slug")
    slug = serializers.CharField()
    name = serializers.CharField()


class ServerShape(serializers.Serializer[Any]):
    """A server that the caller may use."""

    id = serializers.UUIDField(source="server.pk")
    tenant = serializers.CharField(source="server.tenant.slug")
    slug = serializers.CharField(source="server.slug")
    fqn = serializers.SerializerMethodField(help_text="`<tenant>:mcp-server:<slug>`")
    name = serializers.CharField(source="server.name")
    description = serializers.CharField(source="server.description")
    group = serializers.CharField(source="server.group.name", default=None, allow_null=True)
    kind = serializers.ChoiceField(("remote", "virtual"), source="server.kind")
    mcp_url = serializers.URLField(source="server.mcp_url", help_text="What MCP clients are configured with.")
    state = serializers.CharField(help_text="`ok`, `slow`, `failing`, `unknown`, or `off` while it is switched off.")
    role = serializers.ChoiceField(("user", "manager"), allow_null=True)
    limits = serializers.CharField(help_text="What of it is the caller's, in words; empty: everything.")
    created_at = serializers.DateTimeField(source="server.created_at")
    updated_at = serializers.DateTimeField(source="server.updated_at")

    def get_fqn(self, usable: Any) -> str:
        return f"{usable.server.tenant.slug}:mcp-server:{usable.server.slug}"


class ServerQuery(PageQuery):
    """Which of the servers."""

    q = serializers.CharField(required=False, max_length=200, help_text="In name, slug or description.")
    tenant = serializers.CharField(required=False, max_length=63, help_text="Slug of a tenant.")
    group = serializers.CharField(required=False, max_length=200, help_text="Name or slug of a group.")


class ToolShape(serializers.Serializer[Any]):
    """A tool as MCP defines it: what else the server says of it is here too."""

    name = serializers.CharField()
    title = serializers.CharField(required=False)
    description = serializers.CharField(required=False)
    inputSchema = serializers.DictField()
    outputSchema = serializers.DictField(required=False)
    annotations = serializers.DictField(required=False)

    def to_representation(self, instance: Any) -> Any:
        return instance


class ToolQuery(PageQuery):
    """Which of the tools."""

    q = serializers.CharField(required=False, max_length=200, help_text="In the name.")


class CallTaken(Taken):
    """One call of a tool."""

    tool = serializers.CharField(max_length=1000, trim_whitespace=False, help_text="Its name, as it is listed.")
    arguments = serializers.DictField(default=dict, help_text="As the tool's `inputSchema` wants them.")


class CallShape(serializers.Serializer[Any]):
    """What the tool answered."""

    result = serializers.DictField(
        help_text="The result as MCP has it: `content`, `structuredContent`, and `isError` for a failed call."
    )
    request_id = serializers.CharField(help_text="Of the call's record.")


class PersonQuery(serializers.Serializer[Any]):
    """About whom."""

    person = serializers.CharField(
        required=False, max_length=150, help_text="User name of somebody else, for managers of the server."
    )


class ConnectionsQuery(PageQuery, PersonQuery):
    """Whose, and which part of the list."""


class MemberShape(serializers.Serializer[Any]):
    """How one server stands for a person."""

    server = ServerRef()
    credential = serializers.ChoiceField(
        ("nobody", "organisation", "account", "own_key", "brought"),
        help_text="With whose credential it is called. `brought`: the caller's own, with each call.",
    )
    status = serializers.ChoiceField(
        ("ready", "partly_ready", "action_required"), help_text="Whether the person has to do something first."
    )
    need = serializers.ChoiceField(("connect", "reconnect", "own_key", "credential"), allow_null=True)
    detail = serializers.CharField(help_text="What is missing and why, in a sentence; empty: nothing.")
    account = serializers.CharField(help_text="Name of the connected account, as far as its provider told it.")
    scopes = serializers.ListField(child=serializers.CharField())
    connected_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True, help_text="End of an own key; null: none is known.")
    last_used_at = serializers.DateTimeField(allow_null=True)


class ConnectionShape(MemberShape):
    """The same, with the members of a virtual server. `status` is then about all of them."""

    members = MemberShape(many=True)


class ConnectLinkShape(serializers.Serializer[Any]):
    """Where the person connects what is missing."""

    status = serializers.ChoiceField(("ready", "action_required"))
    connect_url = serializers.URLField(allow_null=True, help_text="For the caller alone; null: nothing is missing.")
    expires_at = serializers.DateTimeField(allow_null=True)
    missing = ServerRef(many=True, help_text="What the page walks through, in order.")


class RevokedShape(serializers.Serializer[Any]):
    """What became of a connection."""

    revoked = serializers.BooleanField(help_text="False: there was none.")
    provider = serializers.ChoiceField(
        ("told", "not_offered", "failed"), allow_null=True, help_text="Whether the provider ended it too."
    )
    detail = serializers.CharField()


class AskedShape(serializers.Serializer[Any]):
    """One value that a server asks a person for."""

    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    header = serializers.CharField(help_text="The header that it goes into.")


class OwnKeyShape(serializers.Serializer[Any]):
    """How a person's own key for a server stands. Never its value."""

    server = ServerRef()
    state = serializers.ChoiceField(("missing", "entered", "refused", "expired", "again"))
    detail = serializers.CharField()
    asks_for = AskedShape(many=True)
    set_by = serializers.CharField()
    comment = serializers.CharField()
    tested = serializers.BooleanField(required=False, help_text="After it was set: whether the server took it.")
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    updated_at = serializers.DateTimeField(allow_null=True)


class OwnKeyTaken(Taken):
    """The values, which replace what there was."""

    values = serializers.DictField(
        child=serializers.CharField(max_length=4200, trim_whitespace=False),
        help_text="By the names in `asks_for`. For somebody over a shared header: whole values by header.",
    )
    expires_at = serializers.DateTimeField(default=None, allow_null=True, help_text="When it ends; null: never.")
    comment = serializers.CharField(default="", allow_blank=True, max_length=200, help_text="No secrets here.")
    keep_untested = serializers.BooleanField(default=False, help_text="Keep it although the server cannot be asked.")


class WhyQuery(PersonQuery):
    """About what."""

    tool = serializers.CharField(required=False, max_length=1000, help_text="The tool that is called.")
    client = serializers.CharField(
        required=False, max_length=200, help_text="Name of a key or of an approved client; without it, any way in."
    )


class FixShape(serializers.Serializer[Any]):
    """What to do."""

    sentence = serializers.CharField()
    url = serializers.CharField(help_text="The page where it is done; empty: none of the reader's.")
    label = serializers.CharField()  # type: ignore[assignment]


class StepShape(serializers.Serializer[Any]):
    """One step of the decision."""

    look = serializers.CharField(help_text="What is looked at: `account`, `rule`, `server`, `credential`, ….")
    title = serializers.CharField()
    state = serializers.ChoiceField(("passed", "noted", "failed", "not_reached"))
    found = serializers.ListField(child=serializers.CharField())
    code = serializers.CharField(help_text="The outcome that a call's record gets where this step refuses it.")
    fix = FixShape(allow_null=True)


class ExplanationShape(serializers.Serializer[Any]):
    """Every step of one decision, in order."""

    person = serializers.CharField()
    about = serializers.CharField()
    allowed = serializers.BooleanField()
    steps = StepShape(many=True)


class RequestableShape(ServerRef):
    """A server that can be asked for: no more than its name and what it is for."""

    description = serializers.CharField()
    group = serializers.CharField(source="group.name", default=None, allow_null=True)


class AccessRequestShape(serializers.Serializer[Any]):
    """Somebody's request to use a server."""

    id = serializers.UUIDField()
    server = ServerRef()
    person = serializers.CharField(source="person.username")
    reason = serializers.CharField()
    days = serializers.IntegerField(allow_null=True, help_text="For how long; null: until somebody removes it.")
    state = serializers.ChoiceField(("pending", "approved", "refused", "withdrawn"))
    asked_at = serializers.DateTimeField()
    answered_at = serializers.DateTimeField(allow_null=True)
    answer = serializers.CharField(help_text="What the manager wrote.")


class AccessRequestQuery(PageQuery):
    """Which requests."""

    managed = serializers.BooleanField(default=False, help_text="Those for servers that I manage.")
    state = serializers.ChoiceField(("pending", "approved", "refused", "withdrawn"), required=False)


class AccessRequestTaken(Taken):
    """A request to use a server."""

    server = serializers.UUIDField(help_text="Its id.")
    reason = serializers.CharField(max_length=500)
    days = serializers.IntegerField(min_value=1, max_value=365, default=None, allow_null=True)


class AccessAnswerTaken(Taken):
    """A manager's answer."""

    approve = serializers.BooleanField()
    days = serializers.IntegerField(
        min_value=1, max_value=365, required=False, allow_null=True, help_text="Left out: as asked. Null: no end."
    )
    answer = serializers.CharField(max_length=500, default="", allow_blank=True, help_text="The person reads it.")
