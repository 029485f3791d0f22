"""Pictures of the running product: `make screenshots`.

Starts a gateway of its own with a small organisation in it, and opens each page as its admin. What the documentation
shows goes to docs/_static/screenshots; every page in three widths and both themes goes to var/screenshots, to be
looked at.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from gateway_project.keys import write_missing_keys
from scripts.sample_house import ADMIN, PASSWORD

ROOT = Path(__file__).resolve().parent.parent
FOR_DOCS = ROOT / "docs" / "_static" / "screenshots"
FOR_EYES = ROOT / "var" / "screenshots"
WIDTHS = {"desktop": (1280, 860), "tablet": (768, 1024), "phone": (390, 844)}
PORT, CALCULATOR_PORT = 8790, 8791
START_SECONDS = 180
# Name, path, and whether the documentation shows it.
PAGES = (
    ("portal-servers", "/portal/", True),
    ("portal-server", "/portal/servers/default/calculator/", True),
    ("portal-connections", "/portal/connections/", False),
    ("portal-access", "/portal/access/", True),
    ("portal-playground", "/portal/playground/?server=default/calculator&tool=add", True),
    ("portal-help", "/portal/help/", False),
    ("portal-why", "/portal/why/?server=default/calculator", False),
    ("admin-index", "/admin/", True),
    ("admin-servers", "/admin/servers/server/", False),
    ("admin-server-add", "/admin/servers/server/add/", True),
    ("admin-presets", "/admin/servers/server/presets/", True),
    ("admin-calls", "/admin/servers/call/", False),
    ("admin-audit", "/admin/servers/auditevent/", False),
    ("admin-why", "/admin/why/", False),
    ("sign-in", "/sign-in/", False),
)


@contextmanager
def running_gateway() -> Iterator[str]:
    """A gateway with the sample organisation, on a database of its own; its origin."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-pictures-") as folder:
        write_missing_keys(Path(folder))
        origin = f"http://127.0.0.1:{PORT}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEHOUSE_")}
        kept.pop("DATABASE_URL", None)
        environment = {
            **kept,
            "DJANGO_SETTINGS_MODULE": "gateway_project.settings",
            "GATEHOUSE_DATA_DIR": folder,
            "GATEHOUSE_PUBLIC_URL": origin,
            "GATEHOUSE_LOG_LEVEL": "ERROR",
        }
        command = [sys.executable, "manage.py", "run_demo", f"--port={PORT}", f"--calculator-port={CALCULATOR_PORT}"]
        gateway = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            wait_for(origin)
            subprocess.run([sys.executable, "-m", "scripts.sample_house"], cwd=ROOT, env=environment, check=True)
            yield origin
        finally:
            gateway.terminate()
            gateway.wait(30)


def wait_for(origin: str) -> None:
    """Return when the gateway answers. Raises SystemExit after three minutes."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{origin}/readyz", timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    sys.exit(f"The gateway did not start at {origin} within {START_SECONDS} seconds.")


def open_context(browser: Browser, origin: str, *, width: str, dark: bool) -> BrowserContext:
    """A window of the width and theme, with the admin signed in."""
    across, down = WIDTHS[width]
    context = browser.new_context(
        viewport={"width": across, "height": down},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        timezone_id="Europe/Berlin",
    )
    page = context.new_page()
    page.goto(f"{origin}/portal/")
    page.get_by_label("Username").fill(ADMIN)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{origin}/portal/")
    page.close()
    return context


def shoot(page: Page, origin: str, path: str, target: Path, *, whole: bool) -> None:
    """One picture. A page that is not there is named and left out."""
    response = page.goto(origin + path, wait_until="networkidle")
    if response is None or not response.ok:
        print(f"{path}: {response.status if response else 'no answer'}, left out")
        return
    page.screenshot(path=target, full_page=whole)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs-only", action="store_true", help="only what the documentation shows")
    docs_only = parser.parse_args().docs_only
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    FOR_DOCS.mkdir(parents=True, exist_ok=True)
    FOR_EYES.mkdir(parents=True, exist_ok=True)
    with running_gateway() as origin, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in WIDTHS:
            for dark in (False, True):
                if docs_only and (width != "desktop" or dark):
                    continue
                context = open_context(browser, origin, width=width, dark=dark)
                page = context.new_page()
                for name, path, in_docs in PAGES:
                    look = f"{name}-{width}{'-dark' if dark else ''}.png"
                    if not docs_only:
                        shoot(page, origin, path, FOR_EYES / look, whole=True)
                    if in_docs and width == "desktop" and not dark:
                        shoot(page, origin, path, FOR_DOCS / look, whole=False)
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
