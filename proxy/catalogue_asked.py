"""Reading a catalogue because a person asks for it, with their own credential where each person brings one."""

from __future__ import annotations

from typing import Any

from authflows.outbound.credentials import METHODS
from authflows.outbound.tester_credentials import NothingToTestWith, headers_for
from proxy.catalogue_reading import read
from proxy.probe import Target
from proxy.probe_http import Step
from proxy.targets import target_of, target_with
from servers.catalogue.due import sees_everything
from servers.catalogue.readings import NotRead
from servers.catalogue.taking import Taken, take
from servers.errors import SecretUnavailable
from servers.models import AuthConfig, Server


def read_for(server: Server, person: Any) -> Taken:
    """Read what the server offers and keep it; blocks for some seconds at most.

    With one person's credential nothing counts as gone, and that it is refused says nothing of the server.
    """
    config = AuthConfig.objects.filter(server=server).first() or AuthConfig(server=server)
    whole = sees_everything(config.method)
    try:
        reading = read(_target(server, config, person), known=Server.Eras(server.eras))
    except NothingToTestWith as nothing:
        reading = NotRead(str(Step.AUTHENTICATION), str(nothing))
    except SecretUnavailable as error:
        reading = NotRead(str(Step.AUTHENTICATION), error.public_message)
    if isinstance(reading, NotRead) and not whole:
        return Taken(failure=reading.sentence)
    return take(server, reading, actor=str(person.get_username()), whole=whole)


def _target(server: Server, config: AuthConfig, person: Any) -> Target:
    if config.method in METHODS:
        return target_of(server)
    return target_with(server, headers_for(person, server, config) or ())
