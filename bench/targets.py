"""What is measured: how each target is started, where it is called, what its processes used."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CACHE = HERE / ".cache"
CLIENT_TOKEN = "bench-client-token"
TARGET_CORE, DRIVER_CORE = "0", "1"
_TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def process_tree(pid: int) -> list[int]:
    """The process and its living descendants."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                waiting += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process tree so far."""
    ticks = 0
    for one in process_tree(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICK


def resident_kib(pid: int) -> int:
    """Resident memory of a process tree, pages that processes share counted in each."""
    total = 0
    for one in process_tree(pid):
        try:
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return total


@dataclass
class Target:
    """One thing that calls are sent to. `paths` maps a kind of upstream (json, sse, ...) to a URL path."""

    name: str
    port: int
    token: str
    paths: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    spread: list[str] = field(default_factory=list)
    """Paths of the many registered servers, where there are many."""
    position: int = 0
    """Where in `spread` the next load begins, so that each goes on where the last one ended."""
    data: Path | None = None
    """Data directory of a gateway."""
    tool: str = "echo"
    """What the target calls the upstream's tool."""
    access_token: str = ""
    """Of an OAuth client, for the kind json of a gateway."""
    session: str = ""
    """The session in which an older client calls; empty: none."""

    @property
    def pid(self) -> int | None:
        """Root of the process tree, or None for what is only called."""
        return self.process.pid if self.process else None


class Bench:
    """The working folder, the fake upstream and everything that was started; use it with `with`."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self.log = (folder / "output.log").open("ab")
        self.started: list[subprocess.Popen[bytes]] = []
        self.certificate, pem = _make_certificate(folder)
        self.upstream_port, self.tls_port = free_port(), free_port()
        self.pages = folder / "pages"
        """What the fake upstream answers below /page."""
        command = [sys.executable, str(HERE / "upstream.py"), str(self.upstream_port), "--pages", str(self.pages)]
        upstream = self.start([*command, "--tls", str(self.tls_port), str(pem)], core=DRIVER_CORE)
        self.wait_for(self.upstream_port, upstream)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        for process in self.started:
            stop(process)
        self.log.close()
        if error is None:
            shutil.rmtree(self.folder)

    def start(
        self,
        command: list[str],
        *,
        core: str = TARGET_CORE,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process on one core."""
        process = subprocess.Popen(
            ["taskset", "-c", core, *command],
            cwd=cwd,
            env=_environment(env),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        self.started.append(process)
        return process

    def wait_for(self, port: int, process: subprocess.Popen[bytes], *, seconds: float = 60) -> None:
        """Return when the port accepts connections; exits when the process ends or takes too long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                if process.poll() is not None:
                    break
                time.sleep(0.05)
            else:
                return
        sys.exit(f"{' '.join(map(str, process.args))} does not answer; see {self.folder / 'output.log'}")

    def direct(self) -> Target:
        """The upstream itself, called with its own credential."""
        paths = {"json": "/mcp", "sse": "/sse", "big": "/big", "slow": "/slow"}
        return Target("direct", self.upstream_port, "bench-upstream-token", paths)

    def nginx(self) -> Target:
        """nginx as a reverse proxy that checks one token and injects the credential."""
        port, folder = free_port(), Path(self.folder / f"nginx-{len(self.started)}")
        folder.mkdir()
        text = (HERE / "nginx.conf.template").read_text()
        values = {
            "PORT": port,
            "UPSTREAM": self.upstream_port,
            "TLS": self.tls_port,
            "CERTIFICATE": self.certificate,
        }
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        (folder / "nginx.conf").write_text(text)
        command = shutil.which("nginx") or "/usr/sbin/nginx"
        process = self.start([command, "-p", str(folder), "-e", "stderr", "-c", "nginx.conf"])
        self.wait_for(port, process)
        paths = {"json": "/mcp", "sse": "/sse", "big": "/big", "slow": "/slow", "tls": "/tls"}
        return Target("nginx", port, CLIENT_TOKEN, paths, process)

    def gateway(self, *, name: str = "gatehouse", extra_servers: int = 0, engine: bool = False) -> Target:
        """The gateway as its user starts it, on a database of its own."""
        port = free_port()
        data = self.folder / f"{name}-data"
        env = self._gateway_env(data, port)
        certificate = [str(self.upstream_port), str(self.tls_port), str(self.certificate)]
        self.run(["-m", "gateway_project.keys", str(data)], env)
        self.run(["manage.py", "migrate", "--verbosity", "0"], env)
        options = [str(extra_servers), *(["--engine"] if engine else [])]
        made = self.run(["bench/setup_gateway.py", *certificate, *options], env)
        ways_in = json.loads(made.splitlines()[-1])
        paths = {kind: f"/default/mcp/{kind}/server" for kind in ("json", "sse", "big", "slow", "tls", "connected")}
        spread = [f"/default/mcp/s{number:05d}/server" for number in range(extra_servers)]
        token = ways_in["access_token"]
        return self.start_gateway(
            Target(name, port, ways_in["key"], paths, spread=spread, data=data, access_token=token)
        )

    def start_gateway(self, target: Target) -> Target:
        """Start (again) the gateway whose data exist."""
        assert target.data is not None
        command = [sys.executable, "manage.py", "serve", "--host", "127.0.0.1", "--port", str(target.port)]
        env = self._gateway_env(target.data, target.port)
        target.process = self.start([*command, "--workers", "1"], env=env, cwd=ROOT)
        self.wait_for(target.port, target.process)
        return target

    def run(self, arguments: list[str], env: dict[str, str]) -> str:
        """Run a Python command of the project to its end; returns what it printed."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=_environment(env),
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{' '.join(arguments)} failed; see {self.folder / 'output.log'}")
        return done.stdout

    def _gateway_env(self, data: Path, port: int) -> dict[str, str]:
        return {
            "GATEHOUSE_DATA_DIR": str(data),
            "GATEHOUSE_PUBLIC_URL": f"http://127.0.0.1:{port}",
            # One key opens all the idle streams here; people hold a few each.
            "GATEHOUSE_MAX_STREAMS_PER_CALLER": "100000",
        }


def _environment(extra: dict[str, str] | None) -> dict[str, str]:
    """Ours without what would configure a gateway, and `extra`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GATEHOUSE_", "DATABASE_URL", "DJANGO_"))}
    return {**kept, **(extra or {})}


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started, its children with it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            for pid in process_tree(process.pid):
                os.kill(pid, 9)
            process.wait()


def _make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself; returns the files for the caller and for the server."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder: Any = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=7))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    encoded = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate, pem = folder / "upstream.crt", folder / "upstream.pem"
    certificate.write_bytes(encoded)
    pem.write_bytes(encoded + private)
    pem.chmod(0o600)
    return certificate, pem
