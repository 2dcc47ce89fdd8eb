"""The docs say what the code does: what is generated is current, what is named exists, what is shown happens."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path

import click
import pytest

from docs import generate
from sessionplane.cli.root import root
from sessionplane.domain import errors
from sessionplane.domain.limits import meanings
from sessionplane.domain.routing import Verb
from sessionplane.proof.selftest import PARTS
from sessionplane.rpc.server import SERVICES
from sessionplane.settings import PREFIX, variables
from tests.support.blocks import Block, Shown, blocks
from tests.support.grpcurl import stand_in
from tests.support.serving import Served, serving
from tests.support.terminal import terminal

TOP = generate.TOP
README = TOP / "README.md"
DEFAULT_ADDRESS = "127.0.0.1:50051"

ALL_BLOCKS = [block for page in generate.pages() for block in blocks(page)]
EVERYTHING = "\n".join(page.read_text(encoding="utf-8") for page in generate.pages())

_LINK = re.compile(r"\[[^\]]*\]\((?!https?://|mailto:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    """The server that the docs talk to."""
    async with serving(tmp_path / "docs.db") as served:
        yield served


# What is shown happens


@pytest.mark.parametrize("which", ["real", "stand-in"])
async def test_the_grpcurl_tour_works_as_printed(which: str, server: Served, tmp_path: Path) -> None:
    """Typed block by block into two terminals, the tour prints what the README shows."""
    async with AsyncExitStack() as stack:
        if which == "real":
            program = real_grpcurl()
            if program is None:
                pytest.skip("grpcurl is neither on PATH nor where `go install` puts it")
        else:
            program = await stack.enter_async_context(stand_in(tmp_path))
        await play("grpcurl", server.address, program.parent)


async def test_the_command_line_tour_works_as_printed(server: Served) -> None:
    """Typed block by block into two terminals, the tour prints what the README shows."""
    await play("cli", server.address, Path(sys.executable).parent)


def following(block: Block) -> Block | None:
    """Returns the block that stands behind this one, if it shows what this one prints."""
    at = ALL_BLOCKS.index(block) + 1
    after = ALL_BLOCKS[at] if at < len(ALL_BLOCKS) else None
    return after if after and after.page == block.page and after.language == "text" else None


@pytest.mark.parametrize("block", [block for block in ALL_BLOCKS if block.language == "python"], ids=str)
async def test_python_blocks_run(block: Block, server: Served) -> None:
    """A Python block runs as it stands, and prints what the block behind it shows."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", block.text.replace(DEFAULT_ADDRESS, server.address), stdout=PIPE, stderr=STDOUT
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    shown = following(block)
    if shown is not None:
        Shown().check(shown, printed.decode())


async def play(tour: str, address: str, programs: Path) -> None:
    """Types the README's blocks of a tour, and compares what is shown."""
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "SESSIONPLANE_TARGET": address, "GRPC_VERBOSITY": "NONE"}
    shown, printed = Shown(), ""
    async with terminal(TOP, environment) as caller, terminal(TOP, environment) as follower:
        for block in blocks(README):
            if tour not in block.words:
                continue
            text = block.text.replace(DEFAULT_ADDRESS, address)
            if block.language != "bash":
                shown.check(block, await follower.ended() if "follower" in block.words else printed)
            elif "follower" in block.words:
                await follower.begin(text)
            else:
                printed = await caller.run(text)


def real_grpcurl() -> Path | None:
    """Returns grpcurl from PATH or from where `go install` puts programs."""
    go = Path(os.environ.get("GOPATH") or Path.home() / "go") / "bin"
    path = os.pathsep.join([os.environ["PATH"], os.environ.get("GOBIN", ""), str(go)])
    found = shutil.which("grpcurl", path=path)
    return Path(found) if found else None


def test_the_verdict_in_the_readme_is_what_the_self_test_says() -> None:
    """Each part with its claim, in its order, in the words and lines of the command."""
    (shown,) = [block.text for block in blocks(README) if "selftest" in block.words]
    claims = [f"{name}: {import_module(part.run.split(':')[0]).CLAIM}" for name, part in PARTS.items()]
    assert [
        " ".join(each.split())
        for each in re.findall(r"^OK {7}(.*?)\n {9}\d", shown, re.MULTILINE | re.DOTALL)
    ] == claims
    assert "\nOK: every promise that was put to the test was kept. It took " in shown


# What is generated is current


def test_generated_sections_are_current() -> None:
    """`make docs` would change nothing."""
    assert generate.main(["--check"]) == 0


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of its own, with one stale section."""
    monkeypatch.setattr(generate, "TOP", tmp_path)
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- generated: events -->\nold\n<!-- end -->\nafter\n")
    return page


def test_a_stale_section_is_found_and_renewed(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` names the page and changes nothing; without it only the section changes."""
    assert generate.main(["--check"]) == 1
    assert "README.md is not what the code says. Run: make docs" in capsys.readouterr().err
    assert "old" in page.read_text()
    assert generate.main([]) == 0
    renewed = page.read_text()
    assert renewed.startswith("before\n<!-- generated: events -->\n\n| Body |")
    assert renewed.endswith("|\n\n<!-- end -->\nafter\n")
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<!-- generated: nothing -->\n<!-- end -->", "nothing generates nothing"),
        ("<!-- generated: events -->\n", "has no <!-- end -->"),
        ("<!-- generated: Events! -->\n<!-- end -->", "a name that is none"),
    ],
)
def test_a_section_that_cannot_be_generated_is_named(
    text: str, problem: str, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped name and a missing end are sentences, and nothing is written."""
    page.write_text(text)
    assert generate.main([]) == 1
    assert problem in capsys.readouterr().err
    assert page.read_text() == text


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("lease_ms_default", 15_000, "15 s"),
        ("wait_margin_ms_min", 100, "100 ms"),
        ("run_timeout_ms_default", 86_400_000, "24 h"),
        ("run_timeout_ms_max", 7 * 86_400_000, "7 days"),
        ("request_bytes_max", 1024 * 1024 + 64 * 1024, "1,088 KiB"),
        ("key_rest_bytes_max", 512, "512 bytes"),
        ("log_events_max", 50_000, "50,000"),
    ],
)
def test_bounds_are_said_as_people_say_them(name: str, value: int, said: str) -> None:
    """The largest unit that fits evenly, by what the name counts."""
    assert generate.human(name, value) == said


def test_what_leads_the_same_way_shares_an_arrow() -> None:
    """A diagram has one arrow for each pair of states."""
    drawn = generate.diagram([("A", "B", "x"), ("A", "B", "y"), ("B", "A", "")])
    assert drawn.splitlines()[2:-1] == ["    A --> B: x, y", "    B --> A"]


# What is named exists, and what exists is named


def commands(group: click.Group) -> Iterable[str]:
    for name, command in group.commands.items():
        yield name
        if isinstance(command, click.Group):
            yield from commands(command)


def unnamed(names: Iterable[str], form: str) -> list[str]:
    return [name for name in names if form.format(name) not in EVERYTHING]


def test_everything_has_its_place_in_the_docs() -> None:
    """Every RPC, reason, bound, setting, verb and command is named."""
    served = (method.name for service in SERVICES for method in service.methods)
    assert unnamed(served, "`{}`") == []
    assert unnamed((error.reason for error in errors.leaves()), "`{}`") == []
    assert unnamed(meanings(), "`{}`") == []
    bounds = {f"{PREFIX}LIMITS__{name.upper()}" for name in meanings()}
    assert unnamed(variables().keys() - bounds, "`{}`") == []
    assert unnamed(Verb, "`{}`") == []
    assert unnamed(commands(root), "### sessionplane {}") == []


def test_refusals_to_expect_are_reasons() -> None:
    """What the protos' comments name as errors of an RPC exists."""
    known = {error.reason for error in errors.leaves()}
    rows = [generate._rpc(method) for service in SERVICES for method in service.methods]
    assert {reason for row in rows for reason in re.findall(r"`(\w+)`", row[3])} <= known


def anchors(page: Path) -> set[str]:
    """Returns the names by which a page's headings can be linked."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", generate.pages(), ids=lambda page: str(page.relative_to(TOP)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link is a file that is there, and every anchor a heading in it."""
    for link in _LINK.finditer(page.read_text(encoding="utf-8")):
        target = (page.parent / link["path"]).resolve() if link["path"] else page
        assert target.exists(), f"{page.name} links {link['path']}"
        assert target.is_relative_to(TOP)
        if link["anchor"]:
            assert link["anchor"] in anchors(target), f"{page.name} links {link['path']}#{link['anchor']}"


def test_make_targets_that_are_named_exist() -> None:
    """A reader can type each `make ...`."""
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", EVERYTHING, re.MULTILINE)) <= targets
