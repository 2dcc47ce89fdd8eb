"""`sessionplane import`: another system's sessions, sent in groups of one key, and what became of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .calls import EXIT_REFUSED, EXIT_USAGE, say, talk
from .usage import agent_option, asks_server, examples, json_option, progress_bar

if TYPE_CHECKING:
    from sessionplane.domain.merging import Rank
    from sessionplane.v1.admin_service_pb2 import ImportResult
    from sessionplane_client import Client

    from .openclaw import Found

_ENTRIES_MAX = 100  # in one call: a server takes 500, and its other writers wait for as long as they take
_BYTES_MAX = (
    900_000  # of the entries in one call: below what a server takes, with room for the frame around them
)
_SHOWN_MAX = 20

_MEANINGS = {
    "CREATED": "new sessions that hold their key",
    "MERGED_WINNER": "took their key from a session that is final now",
    "MERGED_LOSER": "final beside the session that keeps their key",
    "ALREADY_IMPORTED": "there already: imported before",
    "REFUSED": "refused",
}


@click.command(
    "import",
    epilog=examples(
        "sessionplane import ~/.openclaw/agents/main/sessions/sessions.json",
        "sessionplane import ~/.openclaw/agents/ops/sessions/sessions.json --agent ops --apply",
        "sessionplane import sessions.json --json | jq -r 'select(.outcome == \"IMPORT_OUTCOME_REFUSED\") | .raw_key'",
    ),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--apply", "is_applied", is_flag=True, help="Do it. Without this nothing is changed.")
@agent_option
@json_option
@asks_server
def import_(file: Path, agent: str, *, is_applied: bool, as_lines: bool) -> None:
    """Import the sessions of OpenClaw's sessions.json.

    A running server takes them. Shows what would be done, and does it with --apply. Where two sessions mean one key,
    the one that changed last keeps it, and the other one becomes final beside it: nothing is discarded, neither of the
    file nor of the server. Repeating an import is safe. Exits with 1 if an entry was refused; the others are imported
    all the same.
    """
    from .openclaw import BadFile, read_store

    try:
        found = read_store(file, agent=agent)
    except BadFile as bad:
        say(str(bad))
        raise SystemExit(EXIT_USAGE) from None

    async def work(client: Client) -> int:
        from . import show

        results = await Import(client, found).run(dry_run=not is_applied)
        if as_lines:
            for result in results:
                click.echo(show.as_json(result))
        else:
            _report(results, dry_run=not is_applied)
        return EXIT_REFUSED if any(_outcome(result) == "REFUSED" for result in results) else 0

    talk(work)


@dataclass
class Import:
    """One file on its way to a server; `results` by the place of their entry in the file."""

    client: Client
    found: Sequence[Found]
    results: dict[int, ImportResult] = field(default_factory=dict)

    async def run(self, *, dry_run: bool) -> list[ImportResult]:
        """Import, or rehearse it. Returns one result for each entry, in their order."""
        for index, each in enumerate(self.found):
            if each.entry is None:
                self.results[index] = _unsent(each)
        sent = [index for index, each in enumerate(self.found) if each.entry is not None]
        batches = list(self._packed([[index] for index in sent]))
        if len(batches) > 1:
            await self._send(batches, dry_run=True, label="Reading keys")
            batches = list(self._packed(self._groups(sent)))
        await self._send(batches, dry_run=dry_run, label="Rehearsing" if dry_run else "Importing")
        return [self.results[index] for index in range(len(self.found))]

    async def _send(self, batches: Sequence[Sequence[int]], *, dry_run: bool, label: str) -> None:
        done: set[int] = set()
        with progress_bar(batches, label=label) as bar:
            for batch in bar:
                answer = await self.client.import_sessions(
                    [self._entry(index) for index in batch], dry_run=dry_run
                )
                for index, result in zip(batch, answer, strict=True):
                    # The head of a large group goes along with each part of it; what became of it is said first.
                    if index not in done:
                        self.results[index] = result
                done.update(batch)

    def _groups(self, sent: Sequence[int]) -> list[list[int]]:
        """Put what means one key together: only a call that knows of all of it can tell who keeps the key."""
        groups: dict[str, list[int]] = {}
        for index in sent:
            key = self.results[index].canonical_key
            groups.setdefault(key or f"{index}", []).append(index)
        return list(groups.values())

    def _packed(self, groups: Sequence[list[int]]) -> Iterator[list[int]]:
        """Fill calls with whole groups. One that is too large goes in parts, and its best claim leads each."""
        batch: list[int] = []
        for group in groups:
            if batch and not self._fits([*batch, *group]):
                yield batch
                batch = []
            batch.extend(group)
            if not self._fits(batch):
                yield from self._parts(sorted(batch, key=self._rank))
                batch = []
        if batch:
            yield batch

    def _parts(self, group: Sequence[int]) -> Iterator[list[int]]:
        head, part = group[0], [group[0]]
        for index in group[1:]:
            if not self._fits([*part, index]):
                yield part
                part = [head]
            part.append(index)
        yield part

    def _fits(self, batch: Sequence[int]) -> bool:
        size = sum(self._entry(index).ByteSize() for index in batch)
        return len(batch) <= _ENTRIES_MAX and size <= _BYTES_MAX

    def _entry(self, index: int) -> Any:
        return self.found[index].entry

    def _rank(self, index: int) -> Rank:
        """Rank a claim as the server does."""
        from sessionplane.domain.merging import moment, rank

        entry, now_ms = self._entry(index), time.time_ns() // 1_000_000
        updated_at_ms = moment(entry.update_time.ToMilliseconds(), now_ms) or 0
        began = moment(entry.start_time.ToMilliseconds(), now_ms) if entry.HasField("start_time") else None
        return rank(
            updated_at_ms=updated_at_ms,
            was_canonical=entry.raw_key == self.results[index].canonical_key,
            since_ms=updated_at_ms if began is None else began,
        )


def _unsent(found: Found) -> ImportResult:
    from sessionplane.v1 import admin_service_pb2 as pb

    return pb.ImportResult(
        raw_key=found.raw_key.encode(errors="replace").decode(),
        outcome=pb.IMPORT_OUTCOME_REFUSED,
        reason="ENTRY_INVALID",
        problem=f"It was not sent: {found.problem}.",
    )


def _outcome(result: ImportResult) -> str:
    from sessionplane.v1 import admin_service_pb2 as pb

    from . import show

    return show.word(pb.ImportOutcome, result.outcome)


def _report(results: Sequence[ImportResult], *, dry_run: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    counts = Counter(_outcome(result) for result in results)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    for outcome, meaning in _MEANINGS.items():
        table.add_row(f"{counts[outcome]:,}", meaning)
    Console(width=100).print(table)
    for outcome, lines in (
        ("MERGED_WINNER", _merged),
        ("MERGED_LOSER", _merged),
        ("REFUSED", _refused),
    ):
        some = [result for result in results if _outcome(result) == outcome]
        if some:
            click.echo(f"\n{_MEANINGS[outcome][0].upper()}{_MEANINGS[outcome][1:]}:")
        for result in some[:_SHOWN_MAX]:
            click.echo(f"  {lines(result)}")
        if len(some) > _SHOWN_MAX:
            click.echo(f"  ... and {len(some) - _SHOWN_MAX:,} more; --json shows all")
    if dry_run:
        say("This was a dry run: nothing has been changed. --apply does it.")


def _merged(result: ImportResult) -> str:
    from . import show

    other = result.other_session_id or "another one of the file"
    return f"{show.quoted(result.raw_key)} as {result.canonical_key}: {other}"


def _refused(result: ImportResult) -> str:
    from . import show

    return f"{show.quoted(result.raw_key)}: {result.reason}: {result.problem}"
