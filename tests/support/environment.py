"""A pytest plugin that is loaded before Django's settings: gives the test run its own data folder and keys."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from gateway_project.keys import write_missing_keys

FOLDER = Path(tempfile.mkdtemp(prefix="gatehouse-tests-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

for name in [n for n in os.environ if n.startswith("GATEHOUSE_")]:
    del os.environ[name]
write_missing_keys(FOLDER)
os.environ["GATEHOUSE_DATA_DIR"] = str(FOLDER)
os.environ["GATEHOUSE_SECRET_ENV"] = "TEST_UPSTREAM_TOKEN"
os.environ["GATEHOUSE_SECRET_DIRS"] = str(FOLDER / "secret-files")
os.environ["TEST_UPSTREAM_TOKEN"] = "canary-environment-secret"
# Playwright runs an event loop in the main thread, which Django takes for an async caller.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
