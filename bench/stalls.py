"""Ask the gateway a trifle every millisecond and say how long the slowest answer took.

    python bench/stalls.py PORT PID

Asks without a credential, which the event loop answers by itself. Prints a line when it has begun; at a line on
standard input it ends with JSON: the longest and the 99th percentile in milliseconds, the most CPU time that the
process used between a question and its answer (which is all that a stall of one core can be its own fault), and the
number of answers.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
import time

_EVERY_SECONDS = 0.001
_WARM_UP = 200


def main(port: int, pid: int) -> None:
    """Watch until told to stop."""
    # What clock_getcpuclockid(3) makes of a process id.
    clock = (~pid << 3) | 2
    request = f"GET /default/mcp/json/server HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    took: list[float] = []
    used: list[float] = []
    gc.disable()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(10_000_000):
            if number == _WARM_UP:
                took.clear()
                used.clear()
                print("watching", flush=True)
            begun, cpu = time.perf_counter(), time.clock_gettime(clock)
            connection.sendall(request)
            if b" 401 " not in connection.recv(65536)[:15]:
                sys.exit("not the expected answer")
            took.append(time.perf_counter() - begun)
            used.append(time.clock_gettime(clock) - cpu)
            if number > _WARM_UP and select.select([sys.stdin], [], [], 0)[0]:
                break
            time.sleep(max(0.0, _EVERY_SECONDS - took[-1]))
    took.sort()
    found = {"longest_ms": took[-1] * 1000, "p99_ms": took[len(took) * 99 // 100] * 1000, "own_ms": max(used) * 1000}
    print(json.dumps({**found, "answers": len(took)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
