"""Runs a few programs side by side until one ends or somebody stops them. For `make run`, not for production."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

_LOOPBACK = "127.0.0.1"
_START_SECONDS = 60
_STOP_SECONDS = 10
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Program:
    """A program that listens on a loopback port."""

    name: str
    command: tuple[str, ...]
    port: int


def port_is_free(port: int) -> bool:
    """Whether a program could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True


def run_together(programs: Sequence[Program], *, on_ready: Callable[[], None], say: Callable[[str], None]) -> int:
    """Start all, call `on_ready` when every port answers, and stop all when one ends or a signal comes.

    Returns 0 after SIGINT, SIGTERM or SIGHUP, and 1 when a program ended by itself or did not come up; `say`
    then gets a sentence. Call it from the main thread.
    """
    stop = threading.Event()
    previous = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    running: list[tuple[Program, subprocess.Popen[bytes]]] = []
    try:
        for program in programs:
            # A session of its own: Ctrl-C reaches this process alone, which then stops them in order.
            running.append((program, subprocess.Popen(program.command, start_new_session=True)))  # noqa: S603
        return _watch(running, stop, on_ready, say)
    finally:
        for _, process in reversed(running):
            process.terminate()
        for _, process in reversed(running):
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_STOP_SECONDS)
            process.kill()
            process.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _watch(
    running: Sequence[tuple[Program, subprocess.Popen[bytes]]],
    stop: threading.Event,
    on_ready: Callable[[], None],
    say: Callable[[str], None],
) -> int:
    waiting = [program for program, _ in running]
    deadline = time.monotonic() + _START_SECONDS
    while not stop.wait(_LOOK_SECONDS):
        for program, process in running:
            if process.poll() is not None:
                say(f"The {program.name} has stopped (exit code {process.returncode}); stopping the rest.")
                return 1
        if not waiting:
            continue
        waiting = [program for program in waiting if not _answers(program.port)]
        if not waiting:
            on_ready()
        elif time.monotonic() > deadline:
            names = " and ".join(program.name for program in waiting)
            say(f"The {names} did not answer within {_START_SECONDS} seconds; stopping.")
            return 1
    return 0


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((_LOOPBACK, port)) == 0
