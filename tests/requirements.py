"""The requirements by id, in short words of our own, so that a test says which one it proves.

F: what a person or operator can do. RS: duties of a protected resource. AZ: of an authorization server. SV: of an
MCP server. SE: sealed session ids. T: threats, named by what must not happen. The numbers have gaps: what is not
built yet is not here.
"""

from __future__ import annotations

from typing import Final

FEATURES: Final = {
    "F-101": "Add a group, add a server in it; the form shows only the fields of the chosen authentication",
    "F-102": "A group is optional and has collaborators of its own",
    "F-103": "Test connection tells versions, name, tools and time, or the step that failed",
    "F-104": "Discover: the form reads how people sign in to a server from its own metadata",
    "F-106": "A sample calculator is registered at the first start",
    "F-107": "Tenants: nothing crosses one",
    "F-108": "Per server: custom CA, static headers, timeouts, allowed request headers, body limit",
    "F-201": "Sign in from the IDE with only the URL, through the browser, and back",
    "F-202": "Clients register themselves, hardened",
    "F-203": "Clients are known by metadata documents, with an operator's switch for closed networks",
    "F-204": "The approval page says who asks, where the answer goes and which server; Approve and Deny",
    "F-205": "Sign-ins of clients expire and refresh; windows of one IDE share a refresh, a thief ends it",
    "F-206": "Personal API keys: shown once, hashed, expiring, limited to servers, last used, revocable",
    "F-207": "Virtual accounts with rights and keys of their own",
    "F-208": "JWTs of the organisation's identity providers: keys, audience, claims to people, teams, accounts",
    "F-209": "Single sign-on: who is made, no association by e-mail, groups lead teams",
    "F-210": "My access: approved clients, keys and sessions, each with last use and its end",
    "F-301": "No Auth, with its warning",
    "F-302": "Header Auth shared by all callers, by value or reference, inside text",
    "F-303": "OAuth2 per person with the organisation's own app",
    "F-304": "Connect Now: one press, the provider, back; each failure with one next step",
    "F-305": "Revoke at any time, here at once, at the provider where it offers that",
    "F-306": "Tokens sealed at rest, refreshed once, a failed refresh explained",
    "F-307": "The gateway registers itself at a provider, by its document or dynamically",
    "F-308": "A key of one's own for a server, with named placeholders: entered once, tested before it is kept",
    "F-309": "A manager sets another's or a program's key, or one over a shared header; end, comment, last use",
    "F-310": "Client credentials; passthrough, labelled and checked",
    "F-311": "Token exchange, on behalf of the caller",
    "F-312": "Connect again as another account; step-up",
    "F-313": "A provider's quirks are fields: parameters, client authentication, no PKCE, no resource, no expires_in",
    "F-314": "“Not connected” reaches the person whatever the client can do",
    "F-315": "A change that ends connections of others shows whose, and asks",
    "F-401": "Secret references: own store, environment, file, wherever a secret is asked for",
    "F-404": "A key ring that is rotated while the gateway serves",
    "F-501": "Collaborators: people and teams as User or Manager of a server or group",
    "F-601": "How To Use: the exact URL and a snippet for each client",
    "F-701": "The 1:1 path is transparent in every protocol revision",
    "F-704": "Legacy sessions survive a restart and reach any replica",
    "F-801": "Audit with a hash chain, and one record for every call",
    "F-805": "Two commands on a fresh machine; PostgreSQL; identical replicas",
    "F-806": "Benchmarks in the repository, as ratios",
}

RESOURCE: Final = {
    "RS-1": "Each MCP URL has a metadata document",
    "RS-2": "The document names the URL exactly as it was called",
    "RS-3": "The challenge and the well-known URL both lead to the document",
    "RS-4": "The document stands at the path-inserted well-known URL",
    "RS-5": "No credential, or a bad one: 401 with the challenge",
    "RS-6": "The challenge names the smallest scope that is enough",
    "RS-7": "Each request is checked anew; a session id proves nothing",
    "RS-8": "A credential counts in the Authorization header only",
    "RS-9": "A token without the scope: 403 that names it",
    "RS-10": "A scope covers all that is under it",
    "RS-11": "What was issued for another audience opens nothing here",
    "RS-12": "Known caller without a right: 403 without a challenge",
    "RS-13": "A stranger cannot tell whether a server exists",
    "RS-14": "The kind of credential is told by its shape",
}

AUTHORIZATION: Final = {
    "AZ-1": "Authorization code with PKCE and refresh token, no other grant",
    "AZ-2": "One issuer, the configured public URL byte for byte, in both documents",
    "AZ-3": "Both documents say that PKCE is S256",
    "AZ-4": "Every client uses PKCE",
    "AZ-6": "Redirect URIs are compared exactly; only a loopback port may differ",
    "AZ-7": "Redirect URIs are https or loopback",
    "AZ-5": "Every answer to a client says from whom it is, errors too",
    "AZ-8": "A registration keeps the redirect URIs that are allowed; private schemes are an admin's exact list",
    "AZ-9": "Metadata documents are read, and cached as their publisher says",
    "AZ-10": "A metadata document is fetched with bounds and believed only about itself",
    "AZ-11": "Public clients are advertised",
    "AZ-12": "Anybody may register a client, within limits; what is unused is forgotten",
    "AZ-13": "A token is limited to the resource that was asked for",
    "AZ-14": "Exactly one resource of ours, or no token",
    "AZ-15": "Refresh tokens rotate; an old one that comes back ends the sign-in",
    "AZ-16": "Access tokens are short-lived",
    "AZ-17": "Stored as hashes, single use, a minute's grace for parallel refreshes, revocable",
    "AZ-18": "The page names client, redirect host and server, is not framed, and is answered from itself only",
    "AZ-19": "A warning where the answer goes to a program on the computer",
    "AZ-20": "Another name or other redirect URIs of a client are asked about anew",
    "AZ-21": "Consent per person, client and server, recorded and asked before anything else",
    "AZ-22": "No parameter of a request replaces consent",
    "AZ-23": "Only an admin's own client goes without a question",
    "AZ-24": "Nothing is redirected to a URI that was not verified",
    "AZ-25": "Towards an identity provider we keep a client's duties: state, issuer, PKCE, checked addresses",
    "AZ-29": "The server offers offline_access; the resource does not",
}

UPSTREAM: Final = {
    "CL-1": "The challenge leads to the resource metadata, else the inserted path, else the root",
    "CL-2": "Resource metadata is about the URL that is configured",
    "CL-3": "Metadata of an issuer is looked for in order and names it to the letter",
    "CL-4": "Servers of 2025-03-26 are their own provider",
    "CL-5": "A discovered provider announces S256",
    "CL-6": "PKCE is left out only where an admin says so, with a warning",
    "CL-7": "An app, our document, registration, else the admin is asked; once, not per person",
    "CL-8": "Our metadata document: its URL is the client id, and keys stand for a secret",
    "CL-9": "A registration that the provider lost is made anew, and people are asked to connect again",
    "CL-10": "Tokens and clients belong to an issuer and are never sent to another",
    "CL-11": "The resource is named in each request to a provider",
    "CL-12": "Scopes: the challenge's, else the resource's, within the admin's ceiling",
    "CL-13": "A call that lacks a scope leads to Connect with what was asked before and what is asked now",
    "CL-14": "The state of a trip is random, single use, and of one person in one browser",
    "CL-15": "An answer of another issuer is not looked at",
    "CL-17": "Browsers are sent to https addresses only",
    "CL-18": "Addresses that an upstream names go through the one door",
    "CL-19": "Tokens are sealed at rest, stand in no log, and go only where they are for",
    "CL-20": "A refresh happens once, and only invalid_grant is an end",
    "CL-21": "A refused token is renewed once and the request sent once more; then it is the person's turn",
    "CL-30": "A token of the gateway's own is one for all callers, and the record still says who called",
}

SERVER: Final = {
    "SV-1": "Encoded header values are decoded before they are compared with the body",
    "SV-2": "The headers that repeat the body's method and name must be there and agree",
}

SESSIONS: Final = {
    "SE-1": "What is sealed for one kind never opens as another",
    "SE-2": "The first key of the ring seals, every key opens",
    "SE-3": "Bound to person and key, not to a token that rotates",
    "SE-4": "Another upstream credential or address ends the sessions of the old one",
    "SE-5": "Every mismatch is the same 404",
    "SE-6": "An absolute lifetime",
    "SE-7": "Lost rights are noticed by the check of each request",
    "SE-8": "An admin can end all sessions of a server",
}

THREATS: Final = {
    "T1": "A key for one server opens another",
    "T2": "The caller's credential goes upstream",
    "T3": "What a caller sends along reaches the wrong place, or is what opened our door",
    "T4": "A credential in the URL is accepted or logged",
    "T5": "One kind of credential is taken for another",
    "T6": "A header twice, one read here and the other upstream",
    "T7": "The caller claims an identity in headers that the upstream trusts",
    "T8": "A stolen refresh token is used; windows that refresh at once sign each other out",
    "T9": "A revoked credential or right lives on",
    "T10": "A disabled person goes on working",
    "T11": "A client that people never approved gets at what they connected",
    "T14": "State is made before anybody approved",
    "T18": "The answer of one provider is taken for another's",
    "T20": "An upstream sends browsers to a dangerous address",
    "T21": "Tokens of one issuer reach another",
    "T22": "Changed metadata moves an endpoint to another host unseen",
    "T59": "A revoked token lives on at the provider",
    "T12": "A parameter skips the question",
    "T15": "A redirect URI that means another place to a browser than to us",
    "T16": "Whoever intercepts a code redeems it",
    "T17": "A code is redeemed twice, or by somebody else",
    "T23": "A client on this computer poses as a known one",
    "T24": "Registrations without end fill the database",
    "T37": "Headers say something else than the body that runs",
    "T38": "Two parsers read one body differently",
    "T39": "A forbidden call hides in a batch",
    "T40": "A session of somebody else, or of another server, is used",
    "T41": "Events of somebody else's stream are resumed",
    "T42": "A session id is taken from an answer that may not give one",
    "T43": "The state of somebody else's request, or of another one, is used",
    "T46": "What a list hides can still be called",
    "T49": "The caller has gone and the work goes on",
    "T50": "A call runs twice because we tried again",
    "T51": "A web page in a browser uses the gateway (rebinding, cookies, foreign origin)",
    "T52": "A failing upstream is taken for one of another era",
    "T53": "A line break in a name or secret splits headers",
    "T54": "One cheap request costs the upstream many",
    "T55": "Whoever reads the database has the secrets",
    "T56": "Secrets in logs, errors or audit",
    "T57": "A shared credential hides who acted",
    "T58": "Arguments are logged by default",
}

EXPECTED: Final = {**FEATURES, **RESOURCE, **AUTHORIZATION, **UPSTREAM, **SERVER, **SESSIONS, **THREATS}
"""Each of these needs a test."""

EARLY: Final = {
    "F-606": "Troubles with signing in lead to one next step",
    "F-703": "The conformance suite gives through the gateway what it gives without",
    "F-803": "JSON logs with request ids",
    "RS-15": "Only configured origins may call from a browser",
    "SE-9": "A session that the upstream lost is told to the client, not opened again",
    "SE-10": "Ending a session reaches the upstream",
    "T13": "Our pages are framed or posted to from elsewhere",
    "T19": "A trip to a provider that one person begins ends as another's",
    "T25": "Markup in names runs on our pages",
    "T26": "A URL points inside our network",
    "T27": "What is allowed for one purpose or port serves another",
    "T28": "A redirect carries credentials elsewhere",
    "T29": "A changed address receives the credential of the old one",
    "T30": "A slow, endless or huge answer exhausts us",
    "T31": "Headers of an upstream act on our origin",
    "T32": "An upstream's challenge sends the client elsewhere",
    "T60": "Trace context carries personal data outward",
}
"""Known, and proven in part already; nothing misses them yet."""

NOT_BUILT: Final = {
    "AZ-26": "Sign-ins that end with a connection: a dead connection is said at the next call instead, with its link",
    "AZ-27": "Programs signing in as OAuth clients: virtual accounts with keys, and JWTs, serve them",
    "AZ-28": "Identity assertions (ID-JAG) at the token endpoint: hardly a client sends them yet",
    "CL-16": "A callback of its own for each server: one fixed address; issuer and state tell answers apart",
}
"""Duties that nothing proves, and why. Printed with the rest, so that the list has no hole without a word."""

KNOWN: Final = {**EXPECTED, **EARLY}

MISSING_TESTS_FAIL: Final = True
"""Whether a run of the whole suite fails when an expected requirement has no test."""
