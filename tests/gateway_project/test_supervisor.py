"""Programs that run together, start together and stop together."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from gateway_project.supervisor import Program, port_is_free, run_together
from tests.support.processes import free_port

pytestmark = pytest.mark.requirement("F-805")

# Writes its process id, then listens until it is told to stop.
LISTEN = """
import os, pathlib, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))
while True:
    listener.accept()[0].close()
"""


def listener(name: str, folder: Path) -> Program:
    port = free_port()
    return Program(name, (sys.executable, "-c", LISTEN, str(port), str(folder / name)), port)


def is_running(pid_file: Path) -> bool:
    try:
        os.kill(int(pid_file.read_text()), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_every_program_and_is_a_good_end(tmp_path: Path, number: signal.Signals) -> None:
    programs = [listener("one", tmp_path), listener("two", tmp_path)]
    said: list[str] = []

    code = run_together(programs, on_ready=lambda: os.kill(os.getpid(), number), say=said.append)

    assert (code, said) == (0, [])
    assert not is_running(tmp_path / "one")
    assert not is_running(tmp_path / "two")


def test_it_is_ready_when_every_port_answers(tmp_path: Path) -> None:
    programs = [listener("one", tmp_path), listener("two", tmp_path)]
    answering: list[bool] = []

    def on_ready() -> None:
        answering.extend(not port_is_free(program.port) for program in programs)
        os.kill(os.getpid(), signal.SIGINT)

    run_together(programs, on_ready=on_ready, say=lambda _: None)

    assert answering == [True, True]


def test_a_program_that_ends_by_itself_stops_the_others_and_is_named(tmp_path: Path) -> None:
    stays = listener("gateway", tmp_path)
    ends = Program("calculator", (sys.executable, "-c", "raise SystemExit(3)"), free_port())
    said: list[str] = []

    code = run_together([stays, ends], on_ready=lambda: None, say=said.append)

    assert code == 1
    assert said == ["The calculator has stopped (exit code 3); stopping the rest."]
    pid_file = tmp_path / "gateway"
    assert not pid_file.exists() or not is_running(pid_file)


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run_together([listener("one", tmp_path)], on_ready=lambda: os.kill(os.getpid(), signal.SIGTERM), say=lambda _: None)

    assert signal.getsignal(signal.SIGTERM) is before
