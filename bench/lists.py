"""Long lists: what one costs against nginx that relays the same bytes, and how long the event loop stands still."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import Any

from calls import body_for, credentials, drive, headers_for
from engine import ask
from targets import DRIVER_CORE, HERE, Bench, Target

METHOD = "tools/list"
LISTERS = 4
"""Clients that follow the list from its beginning to its end, all at once, while the loop is watched."""
_HEARD_SECONDS = 1.5
"""A change made beside the gateway is heard of within a second."""


def many(gateway: Target) -> Target:
    """The virtual server with the long list."""
    return replace(gateway, paths={"json": "/default/mcp/many/server"})


def pages_of(target: Target) -> tuple[list[str], list[bytes], int]:
    """The requests of a client that follows the cursors, the bodies of their answers, and how many tools they hold."""
    asked, answered, tools = [], [], 0
    params: dict[str, Any] = {}
    while True:
        asked.append(body_for("modern", METHOD, params))
        _, body = ask(target, "modern", METHOD, params)
        answered.append(body)
        result = json.loads(body)["result"]
        tools += len(result["tools"])
        if "nextCursor" not in result:
            return asked, answered, tools
        params = {"cursor": result["nextCursor"]}


def relayed(bench: Bench, answered: list[bytes]) -> None:
    """Let the fake upstream answer the same bytes."""
    bench.pages.mkdir(exist_ok=True)
    for number, body in enumerate(answered):
        (bench.pages / str(number)).write_bytes(body)


def measure(
    bench: Bench, target: Target, asked: list[str], answered: list[bytes], *, concurrency: int, seconds: float
) -> dict[str, Any]:
    """All pages of the list in turn, again and again. Numbers are those of one page."""
    relays = target.data is None
    table = {
        "headers": headers_for("modern", METHOD) | credentials(target),
        "paths": [f"/page/{n}" if relays else target.paths["json"] for n in range(len(asked))],
        "body": "",
        "bodies": asked,
        "expect": '"tools":[',
        # A cursor is sealed anew each time, but has the same length.
        "smallest": min(map(len, answered)),
    }
    return drive(bench, target, table, concurrency=concurrency, seconds=seconds)


def forget(target: Target) -> None:
    """Tell the gateway, as another process would, that the catalogue of the long list has changed."""
    assert target.data is not None
    connection = sqlite3.connect(target.data / "gatehouse.sqlite3", timeout=30)
    with connection:
        found = connection.execute("SELECT id FROM servers_server WHERE slug = 'large'").fetchone()
        insert = "INSERT INTO servers_change (kind, key, at) VALUES ('catalogue', ?, datetime('now'))"
        connection.execute(insert, (_dashed(found[0]),))
    connection.close()
    time.sleep(_HEARD_SECONDS)


def _dashed(uuid: str) -> str:
    return "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]))


def stall(bench: Bench, target: Target, how: str) -> dict[str, Any]:
    """The longest time in which the gateway answered nobody, while lists are `cold`, `warm`, or not asked (`idle`).

    Another process asks a trifle every millisecond, which the event loop answers alone: what it waits for is the loop.
    """
    if how == "cold":
        forget(target)
    watching = [sys.executable, str(HERE / "stalls.py"), str(target.port), str(target.pid)]
    command = ["taskset", "-c", DRIVER_CORE, *watching]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    begun, sizes = time.monotonic(), [0] * LISTERS
    if how == "idle":
        time.sleep(1)
    else:
        listers = [threading.Thread(target=_follow, args=(target, sizes, number)) for number in range(LISTERS)]
        for one in listers:
            one.start()
        for one in listers:
            one.join()
    took = time.monotonic() - begun
    answer, _ = process.communicate("\n")
    found = json.loads(answer)
    return {"target": target.name, "how": how, "seconds": took, "list_bytes": min(sizes), **found}


def _follow(target: Target, sizes: list[int], number: int) -> None:
    """The whole list on one connection, without a look at more than the cursor: this process must not be what waits."""
    cursor = b""
    with socket.create_connection(("127.0.0.1", target.port)) as connection:
        while True:
            body = _request(target, cursor)
            connection.sendall(body)
            page = _answer(connection)
            sizes[number] += len(page)
            _, found, rest = page[-2000:].rpartition(b'"nextCursor":"')
            if not found:
                return
            cursor = rest.partition(b'"')[0]


def _request(target: Target, cursor: bytes) -> bytes:
    body = body_for("modern", METHOD, {"cursor": cursor.decode()} if cursor else {})
    headers = headers_for("modern", METHOD) | credentials(target) | {"Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {target.paths['json']} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n{lines}\r\n{body}".encode()


def _answer(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    pieces, missing = [body], length - len(body)
    while missing:
        piece = connection.recv(min(missing, 1 << 20))
        if not piece:
            raise RuntimeError("the gateway closed the connection in the middle of a list")
        pieces.append(piece)
        missing -= len(piece)
    if b" 200 " not in head[:15]:
        raise RuntimeError(f"a list was refused: {head[:200]!r}")
    return b"".join(pieces)
