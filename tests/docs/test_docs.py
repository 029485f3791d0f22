"""The documentation names what the code has, and nothing that it has not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands

from authflows.inbound.refusals import Refusal
from gateway_project import env
from proxy import errors
from proxy.in_flight import EndedBy
from proxy.upstream import Phase
from servers.access import Reason
from servers.audit import Action
from servers.models.records import ENDS_WITHOUT_ERROR

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
OUR_PACKAGES = ("servers", "authflows", "proxy", "gateway_project")


def text(name: str) -> str:
    return (ROOT / name).read_text()


def table_cells(page: str, column: int = 0) -> list[str]:
    """The cells of one column of all tables of a page, heads and rules left out."""
    rows = [line.strip().strip("|").split("|") for line in text(page).splitlines() if line.startswith("|")]
    return [row[column].strip() for row in rows if len(row) > column and not set(row[0].strip()) <= {"-", ""}]


def coded(cell: str) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def first_column_words(page: str) -> set[str]:
    return {word for cell in table_cells(page) for word in coded(cell)}


def sources(*packages: str) -> Iterator[str]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.read_text()


def anchor(heading: str) -> str:
    """The anchor that a Markdown heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def links() -> list[tuple[Path, str]]:
    found = []
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        found += [(page, target) for target in re.findall(r"\]\(([^)\s]+)\)", prose)]
    return found


@pytest.mark.parametrize(("page", "target"), links(), ids=lambda value: getattr(value, "name", value))
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    if target.startswith("https://"):
        return
    name, _, fragment = target.partition("#")
    path = page.parent / name if name else page
    assert path.is_file()
    if fragment:
        assert fragment in {anchor(heading) for heading in re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)}


def test_no_page_lies_unlinked_from_the_readme() -> None:
    """Pages of the site are in its lists, which building it checks; the site itself is in the README."""
    linked = {target.partition("#")[0] for page, target in links() if page.name == "README.md"}
    assert {page.name for page in ROOT.glob("*.md")} | {"docs/index.md"} <= linked | {"README.md"}


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    documented = {name for name in first_column_words("docs/configuration.md") if not name.startswith("gateway.")}
    assert documented == env.known_settings()


def test_every_setting_that_is_mentioned_anywhere_exists() -> None:
    clients_variable = {"GATEHOUSE_KEY"}
    for page in PAGES:
        mentioned = set(re.findall(r"\bGATEHOUSE_[A-Z_]+\b", page.read_text()))
        assert mentioned <= env.known_settings() | clients_variable, page.name


def test_every_system_check_is_documented() -> None:
    made = {found for source in sources(*OUR_PACKAGES) for found in re.findall(r'id="(gateway\.[EW]\d+)"', source)}
    documented = {name for name in first_column_words("docs/configuration.md") if name.startswith("gateway.")}
    assert made
    assert documented == made


def test_every_audit_event_is_documented() -> None:
    documented = {word for word in first_column_words("docs/operations.md") if re.fullmatch(r"[a-z_]+:[a-z_]+", word)}
    assert documented == {str(action) for action in Action}


def test_every_error_code_is_documented() -> None:
    ours = {
        value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int) and value >= 1000
    }
    documented = {int(cell) for cell in table_cells("docs/errors.md") if cell.isdecimal()}
    assert documented == ours


def test_every_outcome_is_documented() -> None:
    made = {str(word) for enum in (Refusal, Reason, EndedBy) for word in enum}
    made |= {f"upstream_{phase}" for phase in Phase}
    made |= {value.outcome for value in vars(errors).values() if isinstance(value, errors.Failure)}
    for source in sources("proxy"):
        made |= set(re.findall(r'(?<!, call\.)outcome = "(\w+)"', source))
        made |= set(
            re.findall(r'"((?:upstream|timeout|message|body|header|method|host|origin|feed)_\w+)",?\s*\)', source)
        )
    documented = set(coded(text("docs/errors.md")))
    assert made <= documented
    known = {"ok", "not_connected", "era_not_shared", *EndedBy}
    assert {"ok"} < ENDS_WITHOUT_ERROR <= known, "only ends that the gateway knows"


def test_every_command_of_ours_is_documented_and_every_documented_command_exists() -> None:
    ours = {name for name, app in get_commands().items() if app.split(".")[-1] in OUR_PACKAGES}
    pages = "".join(page.read_text() for page in PAGES)
    assert ours
    assert {name for name in ours if f"manage.py {name}" not in pages} == set()
    mentioned = set(re.findall(r"manage\.py ([a-z_]+)", pages))
    assert mentioned <= set(get_commands())


def test_the_make_targets_that_are_mentioned_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    for page in PAGES:
        mentioned = set(re.findall(r"(?:`|^)make ([a-z]+)", page.read_text(), re.MULTILINE))
        assert mentioned <= targets, page.name


def test_set_up_needs_the_two_commands_of_the_readme_and_no_other() -> None:
    set_up = text("README.md").partition("## Set up")[2].partition("\n## ")[0]
    commands = [block.strip() for block in re.findall(r"```\n(.*?)```", set_up, re.DOTALL)]
    assert commands == ["make run", "make test"]


def test_every_direct_dependency_has_its_line_and_no_other_has() -> None:
    required = set()
    for name in ("requirements.txt", "requirements-docs.txt", "requirements-dev.txt"):
        lines = [line.partition("#")[0].strip() for line in text(name).splitlines()]
        required |= {re.split(r"[\[<>=~ ]", line)[0] for line in lines if line and not line.startswith("-")}
    listed = set(table_cells("docs/dependencies.md")) - {"Package"}
    assert listed == required


def test_the_versions_of_the_dependencies_are_those_of_the_lock() -> None:
    lock = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text("requirements-dev.lock"), re.MULTILINE))
    for line in text("docs/dependencies.md").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| ") and cells[0] in lock:
            assert cells[-1].startswith(f"{lock[cells[0]]}, "), cells[0]


def test_locks_hold_hashes_for_everything_and_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        lock = text(name)
        assert "://" not in lock
        assert not re.search(r"^--(index|find|extra)", lock, re.MULTILINE)
        pinned = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
        assert pinned
        assert [entry.split()[0] for entry in pinned if "--hash=sha256:" not in entry] == []


def test_both_locks_agree() -> None:
    run, dev = (
        dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text(name), re.MULTILINE))
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert {name: dev.get(name) for name in run} == run


def test_the_files_that_the_architecture_names_exist() -> None:
    """`path/file.py: name` in the pages is a file that has the name."""
    for page in PAGES:
        for path, names in re.findall(r"`([a-z_]+/[\w/]+\.py)(?:: ([^`]+))?`", page.read_text()):
            assert (ROOT / path).is_file(), f"{page.name}: {path}"
            source = (ROOT / path).read_text()
            for name in filter(None, re.split(r"[,.]\s*", names)):
                assert re.search(rf"\b{re.escape(name.strip())}\b", source), f"{page.name}: {path}: {name}"


def test_the_architecture_says_of_every_file_of_the_engine_what_it_is_for() -> None:
    files = text("docs/architecture.md").partition("| Role | Files |")[2].partition("\n\n")[0]
    listed = coded(files)
    assert sorted(listed) == sorted(path.stem for path in ROOT.glob("proxy/engine/*.py") if path.stem != "__init__")
