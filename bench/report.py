"""Tables and gates out of the rows of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Row = dict[str, Any]
GATEWAY, NGINX, DIRECT = "gatehouse", "nginx", "direct"
PLAIN, VIRTUAL = "1:1 path", "virtual server"

MARKER = "<!-- results: bench/run.py --into writes what follows -->"


@dataclass(frozen=True)
class Gate:
    """One promise: what was measured, and the limit."""

    what: str
    measured: float | None
    limit: float
    at_most: bool = True

    @property
    def passed(self) -> bool:
        """Whether the measured value keeps the limit; a value that is missing does not."""
        if self.measured is None:
            return False
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit


def _number(value: float | None, form: str = ",.0f") -> str:
    return "–" if value is None else format(value, form)


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    ruled = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled)


def _middle(rows: Iterable[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row.get(key) is not None]
    return median(values) if values else None


def _select(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def _ratio(rows: list[Row], target: str, base: str, key: str) -> float | None:
    """Median over the rounds of target / base, each taken within its round."""
    below = {row["round"]: row[key] for row in _select(rows, target=base)}
    pairs = [(row[key], below.get(row["round"])) for row in _select(rows, target=target)]
    ratios = [above / base_value for above, base_value in pairs if above and base_value]
    return median(ratios) if ratios else None


def _names(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row["target"] for row in rows))


def _load_lines(rows: list[Row], label: str, base: str) -> list[list[str]]:
    """One line for each target of one load, with ratios to `base`."""
    lines = []
    for name in _names(rows):
        own = _select(rows, target=name)
        cpu = _ratio(rows, name, base, "cpu_us") if name != base else None
        rps = _ratio(rows, name, base, "rps") if name != base else None
        lines.append(
            [
                label,
                name,
                _number(_middle(own, "cpu_us")),
                f"**{cpu:.2f}**" if cpu else "–",
                _number(_middle(own, "rps")),
                _number(rps, ".3g"),
                _number((_middle(own, "p50_us") or 0) / 1000, ".2f"),
                _number((_middle(own, "p99_us") or 0) / 1000, ".1f"),
                str(sum(row["wrong"] for row in own)),
            ]
        )
    return lines


_LOAD_HEADS = ("load", "target", "CPU us/call", "CPU / {0}", "calls/s", "calls/s / {0}", "p50 ms", "p99 ms", "wrong")


def _load_table(title: str, rows: list[Row], base: str, label: Callable[[Row], str]) -> str:
    lines = []
    for one in dict.fromkeys(label(row) for row in rows):
        lines += _load_lines([row for row in rows if label(row) == one], one, base)
    return f"\n### {title}\n\n" + _table([head.format(base) for head in _LOAD_HEADS], lines)


def machine(rows: list[Row]) -> str:
    """One paragraph about what the numbers were made on."""
    loads = [row["load_average"] for row in rows if "load_average" in row]
    busy = f" Load average while measuring: {min(loads):.1f} to {max(loads):.1f}." if loads else ""
    found = _select(rows, part="machine")
    if not found:
        return busy.strip()
    one = found[0]
    return f"{one['date']}; {one['cpu']}, {one['cores']} cores; {', '.join(one['versions'])}.{busy}"


def tables(rows: list[Row]) -> str:
    """Every table that the rows have something for, as Markdown."""
    parts = {part: _select(rows, part=part) for part in dict.fromkeys(row["part"] for row in rows)}
    out = []
    if found := parts.get("calls"):
        out.append(_load_table("Calls", found, NGINX, lambda row: f"{row['era']}, c={row['concurrency']}"))
    if found := parts.get("shapes"):
        out.append(_load_table("Other replies and upstreams", found, NGINX, _shape))
        out.append(_differences(found))
    if found := parts.get("tokens"):
        out.append(_load_table("Kinds of credential", found, GATEWAY, lambda row: f"c={row['concurrency']}"))
    if found := parts.get("scale"):
        out.append(_load_table("Registered servers", found, found[0]["target"], lambda row: "spread, c=16"))
    if found := parts.get("engine"):
        out.append(_load_table("The engine", found, PLAIN, lambda row: f"{row['era']} client, c={row['concurrency']}"))
    if found := parts.get("lists"):
        tools, pages, size = (found[0][name] for name in ("tools", "pages", "bytes"))
        title = f"A list of {tools:,} tools: {size / 2**20:.1f} MiB in {pages} pages"
        out.append(_load_table(title, found, NGINX, lambda row: f"one page, c={row['concurrency']}"))
    if found := parts.get("stalls"):
        out.append(_stall_table(found))
    if found := parts.get("cold"):
        cold = _middle(found, "cpu_us")
        out.append(f"\nThe first call of a server, which reads the database: {_number(cold)} us of CPU.")
    if found := parts.get("streams"):
        out.append(_stream_table(found))
    if found := parts.get("records"):
        heads = ("calls", "calls/s (the driver is Python)", "wrong", "rows written", "lost")
        lines = [
            [f"{r['calls']:,}", _number(r["calls"] / r["seconds"]), str(r["wrong"]), f"{r['rows']:,}", str(r["lost"])]
            for r in found
        ]
        out.append("\n### Call records\n\n" + _table(heads, lines))
    if found := parts.get("peers"):
        out.append(_load_table("Peers", found, found[0]["target"], lambda row: "legacy, c=16"))
    return "\n".join(out)


def _shape(row: Row) -> str:
    named = {"json": "JSON", "sse": "SSE reply", "big": "64 KiB reply", "tls": "TLS upstream", "slow": "50 ms upstream"}
    return f"{named[row['kind']]}, c={row['concurrency']}"


def _differences(rows: list[Row]) -> str:
    lines = []
    for name in [name for name in _names(rows) if name != DIRECT]:
        plain, tls = (_middle(_select(rows, target=name, kind=kind), "cpu_us") for kind in ("json", "tls"))
        slow = [_ratio(_select(rows, kind="slow", concurrency=c), name, DIRECT, "rps") for c in (64, 256)]
        extra = tls - plain if plain and tls else None
        lines.append([name, _number(extra), *(_number(ratio, ".2f") for ratio in slow)])
    heads = ("target", "TLS extra CPU us/call", "50 ms upstream c=64: calls/s / direct", "c=256")
    return "\n" + _table(heads, lines)


def _stall_table(rows: list[Row]) -> str:
    heads = ("lists meanwhile", "longest stall ms", "worst round", "own CPU ms", "worst round", "p99 ms", "lists ms")
    lines = []
    for how in ("idle", "warm", "cold"):
        own = _select(rows, how=how)
        cells = ["none" if how == "idle" else how]
        for key in ("longest_ms", "own_ms"):
            cells += [f"**{_number(_middle(own, key), '.1f')}**", _number(max(row[key] for row in own), ".1f")]
        after = (_middle(own, "seconds") or 0) * 1000 if how != "idle" else None
        lines.append([*cells, _number(_middle(own, "p99_ms"), ".1f"), _number(after)])
    return "\n### Stalls of the event loop while lists are made and sent\n\n" + _table(heads, lines)


def _stream_table(rows: list[Row]) -> str:
    heads = ["opened by", "target", "streams", "KiB/stream", "CPU us to open", "CPU s while idle"]
    heads += ["alive", "open at upstream", "slowest disconnect ms"]
    lines = [
        [
            {"get": "GET", "listen": "subscriptions/listen"}[row["how"]],
            row["target"],
            f"{row['streams']:,}",
            f"**{row['kib']:.1f}**",
            _number(row["open_cpu_us"]),
            _number(row["idle_cpu_s"], ".2f"),
            f"{row['alive']:,}",
            f"{row['upstream_open']:,}",
            _number(row.get("notice_ms")),
        ]
        for row in rows
    ]
    return "\n### Idle streams\n\n" + _table(heads, lines)


def gates(rows: list[Row]) -> list[Gate]:
    """The promises that the measured parts can be held to."""
    found: list[Gate] = []
    parts = ("calls", "tokens", "scale", "engine", "lists", "stalls", "streams", "records", "peers")
    by_part = {part: _select(rows, part=part) for part in parts}
    if measured := by_part["calls"]:
        for era in ("legacy", "modern"):
            for concurrency in (16, 64):
                some = _select(measured, era=era, concurrency=concurrency)
                ratio = _ratio(some, GATEWAY, NGINX, "cpu_us")
                found.append(Gate(f"CPU per call / nginx's, {era}, c={concurrency}", ratio, 3.5))
    if measured := by_part["tokens"]:
        for name in _names(measured)[1:]:
            ratio = _ratio(_select(measured, concurrency=16), name, GATEWAY, "cpu_us")
            found.append(Gate(f"CPU per call, {name} / API key", ratio, 1.05))
    if measured := by_part["scale"]:
        few, *more = _names(measured)
        for many in more:
            ratio = _ratio(measured, many, few, "cpu_us")
            found.append(Gate(f"CPU per call, {many} servers / {few.rpartition(' ')[2]}", ratio, 1.10))
    if measured := by_part["engine"]:
        for era in ("legacy", "modern"):
            ratio = _ratio(_select(measured, era=era), VIRTUAL, PLAIN, "cpu_us")
            found.append(Gate(f"CPU per call, {VIRTUAL} / {PLAIN}, {era}", ratio, 2.0))
    if measured := by_part["lists"]:
        for concurrency in (1, 16):
            ratio = _ratio(_select(measured, concurrency=concurrency), GATEWAY, NGINX, "cpu_us")
            found.append(Gate(f"CPU per page of a list / nginx's, c={concurrency}", ratio, 1.5))
    for how in ("warm", "cold"):
        if measured := _select(by_part["stalls"], how=how):
            found.append(Gate(f"ms of the event loop's longest stall, {how} lists", _middle(measured, "own_ms"), 5))
    if measured := _select(by_part["streams"], target=GATEWAY):
        for row in measured:
            found.append(Gate(f"KiB per idle stream, {row['how']}, {row['streams']:,}", row["kib"], 20))
            if "notice_ms" in row:
                found.append(Gate(f"ms until a disconnect is noticed, {row['how']}", row["notice_ms"], 1000))
            found.append(Gate(f"streams lost of {row['streams']:,}", row["streams"] - row["upstream_open"], 0))
    for row in by_part["records"]:
        found.append(Gate("call records lost", abs(row["calls"] - row["rows"]), 0))
    if measured := by_part["peers"]:
        own, fastmcp, contextforge = _names(measured)
        for peer, limit in ((fastmcp, 200), (contextforge, 300)):
            found.append(Gate(f"calls/s / {peer}", _ratio(measured, own, peer, "rps"), limit, at_most=False))
    wrong = sum(row.get("wrong", 0) for row in rows if "target" not in row or "==" not in row["target"])
    found.append(Gate("wrong replies", wrong, 0))
    return found


def gate_table(found: list[Gate]) -> str:
    """The gates as a table, pass or fail."""
    lines = [
        [
            gate.what,
            _number(gate.measured, ".4g"),
            f"{'at most' if gate.at_most else 'at least'} {gate.limit:g}",
            "pass" if gate.passed else "**fail**",
        ]
        for gate in found
    ]
    return "\n### Gates\n\n" + _table(("what", "measured", "gate", "result"), lines)
