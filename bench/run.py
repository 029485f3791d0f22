"""Measure the gateway: `python bench/run.py [parts] [--gates]` prints the tables of docs/performance.md.

Everything is compared within one interleaved run: each round calls every target once, and ratios are taken round
by round, so that a busy machine slows all of them alike. The targets run on one core, the load and the fake
upstream on the other. Parts: calls, shapes, tokens, scale, engine, lists, streams, records, peers (only when named
or with --peers, since its installation takes minutes). Raw results go to bench/results/ as JSON lines.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import calls
import engine
import lists
import peers
import records
import report
import streams
from calls import Load
from setup_engine_names import HIDDEN_EVERY, TOOLS
from targets import CACHE, DRIVER_CORE, HERE, Bench, Target, stop

Row = dict[str, Any]
Note = Callable[[Row], None]
SCALES = (10, 1_000, 10_000)
RECORDED_CALLS = 60_000


def rounds_of(
    bench: Bench, targets: Sequence[Target], load: Load, options: argparse.Namespace, note: Note, *, part: str
) -> None:
    """Warm every target up, then call each once a round, every other round in reverse order."""
    for target in targets:
        calls.measure(bench, target, load, seconds=1)
    for number in range(options.rounds):
        for target in targets if number % 2 == 0 else reversed(targets):
            row = calls.measure(bench, target, load, seconds=options.seconds)
            note({"part": part, "round": number, **row})
            if row["wrong"]:
                print(f"{target.name}: {row['wrong']} wrong replies, such as {row['example']!r}", flush=True)


def run_calls(bench: Bench, options: argparse.Namespace, note: Note) -> None:
    """`tools/call` of both eras at three concurrencies: nginx against the gateway."""
    targets = [bench.direct(), bench.nginx(), bench.gateway()]
    for era in ("legacy", "modern"):
        for concurrency in (1, 16, 64):
            rounds_of(bench, targets, Load(era=era, concurrency=concurrency), options, note, part="calls")


def run_shapes(bench: Bench, options: argparse.Namespace, note: Note) -> None:
    """Other replies and upstreams."""
    targets = [bench.nginx(), bench.gateway()]
    for kind, concurrency in (("json", 16), ("sse", 16), ("big", 16), ("tls", 16)):
        rounds_of(bench, targets, Load(kind=kind, concurrency=concurrency), options, note, part="shapes")
    for concurrency in (64, 256):
        load = Load(kind="slow", concurrency=concurrency)
        rounds_of(bench, [bench.direct(), *targets], load, options, note, part="shapes")


def run_tokens(bench: Bench, options: argparse.Namespace, note: Note) -> None:
    """The same gateway and calls with an API key, with an access token of an OAuth client, and of somebody whose own
    token goes upstream."""
    by_key = bench.gateway()
    by_token = replace(by_key, name="gatehouse, OAuth token", token=by_key.access_token)
    connected = replace(by_key, name="gatehouse, connected", paths={"json": by_key.paths["connected"]})
    for concurrency in (1, 16):
        load = Load(era="modern", concurrency=concurrency)
        rounds_of(bench, [by_key, by_token, connected], load, options, note, part="tokens")


def run_scale(bench: Bench, options: argparse.Namespace, note: Note) -> None:
    """Calls spread over few and many registered servers."""
    targets = [bench.gateway(name=f"gatehouse {count:,}", extra_servers=count) for count in SCALES]
    load = Load(spread=True)
    for target in targets:
        # Every server twice at least: what is measured is the steady state. The first pass costs queries.
        visited, servers = 0, len(target.spread)
        while visited < 2 * servers:
            row = calls.measure(bench, target, load, seconds=2)
            if visited + row["requests"] <= servers:
                note({"part": "cold", "servers": servers, **row})
            visited += row["requests"]
    rounds_of(bench, targets, load, options, note, part="scale")


def run_engine(bench: Bench, options: argparse.Namespace, note: Note) -> None:
    """Calls through a virtual server and through bridges, by clients of both eras, against the 1:1 path."""
    gateway = bench.gateway(engine=True)
    for era in ("legacy", "modern"):
        rounds_of(bench, engine.targets_for(gateway, era), Load(era=era), options, note, part="engine")


def run_lists(bench: Bench, options: argparse.Namespace, note: Note) -> None:
    """A filtered list of 10,000 tools against nginx relaying the same bytes, and stalls of the event loop."""
    gateway, nginx = lists.many(bench.gateway(engine=True)), bench.nginx()
    asked, answered, tools = lists.pages_of(gateway)
    if tools != TOOLS - TOOLS // HIDDEN_EVERY:
        sys.exit(f"the list holds {tools} tools")
    lists.relayed(bench, answered)
    about = {"part": "lists", "tools": tools, "pages": len(asked), "bytes": sum(map(len, answered))}
    for concurrency in (1, 16):
        for number in range(-1, options.rounds):
            for target in (nginx, gateway) if number % 2 == 0 else (gateway, nginx):
                some = {"concurrency": concurrency, "seconds": options.seconds if number >= 0 else 1}
                row = lists.measure(bench, target, asked, answered, **some)
                if number >= 0:
                    note({**about, "round": number, **row})
    for number in range(-1, 3 * options.rounds):
        for how in ("idle", "warm", "cold"):
            row = lists.stall(bench, gateway, how)
            if number >= 0:
                note({"part": "stalls", "round": number, **row})


def run_streams(bench: Bench, options: argparse.Namespace, note: Note) -> None:
    """Idle streams, each kind in a fresh process."""
    gateway = bench.gateway()
    for how in ("get", "listen"):
        for target in (bench.nginx(), gateway):
            for kind in ("json", "sse"):
                calls.measure(bench, target, Load(kind=kind), seconds=1)
            measuring = streams.measure(bench, target, how=how, counts=[1000, 5000], hold=options.hold)
            for row in asyncio.run(measuring):
                note({"part": "streams", **row})
            assert target.process is not None
            stop(target.process)
        if how == "get":
            bench.start_gateway(gateway)


def run_records(bench: Bench, options: argparse.Namespace, note: Note) -> None:
    """Call records after an exact number of calls at full speed."""
    measuring = records.measure(bench.gateway(), calls=RECORDED_CALLS, concurrency=64)
    note({"part": "records", **asyncio.run(measuring)})


def run_peers(bench: Bench, options: argparse.Namespace, note: Note) -> None:
    """Calls per second at concurrency 16 against other MCP proxies."""
    targets = [bench.gateway(), peers.fastmcp(bench), peers.contextforge(bench)]
    slow = argparse.Namespace(**{**vars(options), "seconds": max(10, options.seconds)})
    rounds_of(bench, targets, Load(), slow, note, part="peers")


PARTS = {
    "calls": run_calls,
    "shapes": run_shapes,
    "tokens": run_tokens,
    "scale": run_scale,
    "engine": run_engine,
    "lists": run_lists,
    "streams": run_streams,
    "records": run_records,
    "peers": run_peers,
}


def install_needs() -> None:
    """nginx and wrk from Debian where we may install; otherwise say what is missing."""
    tools = {"nginx": "nginx-light", "wrk": "wrk", "taskset": "util-linux"}
    missing = [tools[tool] for tool in tools if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin")]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True)
        if "nginx-light" in missing and shutil.which("systemctl"):
            # Debian starts what it installs; the bench starts its own.
            subprocess.run(["systemctl", "disable", "--now", "nginx"], stderr=subprocess.DEVNULL, check=False)
    elif missing:
        sys.exit(f"Missing: {', '.join(missing)}. Install with: sudo apt-get install {' '.join(missing)}")
    if (os.cpu_count() or 1) < 2:
        sys.exit("The bench needs two cores: one for the target, one for the load.")
    # Thousands of streams: ours, and by inheritance the gateway's and nginx's.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 20_000:
        print(f"Only {hard} open files are allowed here; the streams part needs 20,000.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def machine() -> Row:
    """What the numbers were made on."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    nginx = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=False).stderr
    packages = ("django", "channels", "uvicorn", "uvloop", "httptools")
    return {
        "date": f"{datetime.now(UTC):%-d %B %Y}",
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "versions": [
            f"Python {platform.python_version()} of {sys.base_prefix}",
            *(f"{package} {metadata.version(package)}" for package in packages),
            nginx.strip().rpartition(": ")[2].replace("/", " "),
        ],
    }


def main() -> None:
    """Run the parts that were asked for, print the tables, and fail below a gate when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--peers", action="store_true", help="also compare with fastmcp and ContextForge")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of load on each target in each round")
    parser.add_argument("--hold", type=float, default=20, help="seconds to hold idle streams")
    parser.add_argument("--gates", action="store_true", help="exit with 1 when a gate fails")
    parser.add_argument("--tables", type=Path, metavar="FILE", help="only print the tables of an earlier run")
    parser.add_argument("--into", type=Path, metavar="FILE", help="also put the tables at the end of a document")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if options.tables:
        rows = [json.loads(line) for line in options.tables.read_text().splitlines()]
    else:
        rows = measure_parts(options)
    gates = report.gates(rows)
    text = f"{report.machine(rows)}\n{report.tables(rows)}\n{report.gate_table(gates)}\n"
    print(text)
    if options.into:
        kept, marker, _ = options.into.read_text().partition(report.MARKER)
        if not marker:
            parser.error(f"{options.into} has no line {report.MARKER!r}")
        options.into.write_text(f"{kept}{marker}\n\n{text}")
    if options.gates and not all(gate.passed for gate in gates):
        sys.exit(1)


def measure_parts(options: argparse.Namespace) -> list[Row]:
    """Measure; every row is written to the results file at once and returned at the end."""
    install_needs()
    os.sched_setaffinity(0, {int(DRIVER_CORE)})
    wanted = options.parts or [part for part in PARTS if part != "peers"]
    if options.peers and "peers" not in wanted:
        wanted.append("peers")
    (HERE / "results").mkdir(exist_ok=True)
    file = HERE / "results" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl"
    rows: list[Row] = []

    def note(row: Row) -> None:
        rows.append(row)
        with file.open("a") as out:
            out.write(json.dumps(row) + "\n")

    lock = (HERE / "results" / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another bench is running; waiting for it.", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    note({"part": "machine", **machine()})
    for left_over in CACHE.glob("work-*"):
        shutil.rmtree(left_over)
    for part in wanted:
        print(f"Measuring {part} …", file=sys.stderr, flush=True)
        with Bench(CACHE / f"work-{os.getpid()}") as bench:
            PARTS[part](bench, options, note)
    print(f"Results: {file}", file=sys.stderr)
    return rows


if __name__ == "__main__":
    main()
