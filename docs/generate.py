"""Writes the parts of the docs that the code knows better; with `--check` it only says whether they are current.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->` in README.md or a page below docs/. Each name is a
function here that turns one of the code's own tables, or the comments of the protos, into Markdown. Nothing here
knows a fact by itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import click
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from docs.markup import Enum, code, diagram, human, listed, table
from docs.record import track_record
from sessionplane.cli.root import root
from sessionplane.cli.serve import serve
from sessionplane.domain import errors, inputs, interrupts, key_rules, runs, sessions
from sessionplane.domain.events import EventKind
from sessionplane.domain.inputs import InputStage
from sessionplane.domain.interrupts import InterruptStage
from sessionplane.domain.legacy_keys import LEGACY, modern
from sessionplane.domain.limits import DEFAULT, meanings
from sessionplane.domain.listing import FIELDS, Field
from sessionplane.domain.routing import ROUTES, Column
from sessionplane.domain.runs import RunCause, RunState
from sessionplane.domain.sessions import SessionCause, SessionState
from sessionplane.domain.streams import RESUMABLE, ClosingReason
from sessionplane.proof.liveness import report
from sessionplane.rpc.server import SERVICES
from sessionplane.rpc.status import CLOSINGS, CODES, RETRY_AFTER_S
from sessionplane.settings import PREFIX, Settings, variables
from tests.planted import results

TOP = Path(__file__).resolve().parent.parent
HELP_WIDTH = 100

_SECTION = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_REFUSALS = re.compile(r"\s*Errors: (?P<reasons>[^.]+)\.")
_REASON = re.compile(r"\b[A-Z]+(?:_[A-Z]+)*\b")


# The protos' comments


def _comments() -> dict[str, str]:
    """Return the comments of services and enum values by name, of methods and fields by that of their parent too."""
    found = {}
    described = FileDescriptorSet.FromString((TOP / "protos/sessionplane.protoset").read_bytes())
    for file in described.file:
        for location in file.source_code_info.location:
            match list(location.path):
                case [4, i, 2, j]:
                    name = f"{file.message_type[i].name}.{file.message_type[i].field[j].name}"
                case [5, i, 2, j]:
                    name = file.enum_type[i].value[j].name
                case [6, i]:
                    name = file.service[i].name
                case [6, i, 2, j]:
                    name = f"{file.service[i].name}.{file.service[i].method[j].name}"
                case _:
                    continue
            found[name] = " ".join(location.leading_comments.split())
    return found


COMMENTS = _comments()


def first_sentence(text: str) -> str:
    """Return the text up to its first full stop that ends a sentence."""
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def _meaning(value: StrEnum) -> str:
    """Return the comment that the protos give to the wire's twin of one of the domain's enum values."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", type(value).__name__).upper()
    return COMMENTS[f"{prefix}_{value}"]


# The sections


def rpcs() -> str:
    """Every RPC that is served, with the first sentence of its comment and the refusals that its comment names."""
    parts = []
    for service in SERVICES:
        rows = [_rpc(method) for method in service.methods]
        parts += [f"### {service.name}", first_sentence(COMMENTS[service.name])]
        parts += [table(("RPC", "Kind", "What it does", "Refusals to expect"), rows)]
    return "\n\n".join(parts)


def _rpc(method: MethodDescriptor) -> Sequence[str]:
    kinds = {(False, False): "unary", (False, True): "server stream", (True, True): "both stream"}
    comment = COMMENTS[f"{method.containing_service.name}.{method.name}"]
    refusals = _REFUSALS.search(comment)
    return (
        code(method.name),
        kinds[method.client_streaming, method.server_streaming],
        first_sentence(_REFUSALS.sub("", comment)),
        _REASON.sub(r"`\g<0>`", refusals["reasons"]) if refusals else "-",
    )


def reasons() -> str:
    """Every reason with its code, its message, and when to try again."""
    rows = [
        (
            code(error.reason),
            code(CODES[error].name),
            re.sub(r"\{(\w+)\}", r"*\1*", error.__doc__ or ""),
            f"{RETRY_AFTER_S[error]} s" if error in RETRY_AFTER_S else "",
        )
        for leaf in errors.leaves()
        for error in (leaf, *(variant for variant in errors.variants() if issubclass(variant, leaf)))
    ]
    return table(("Reason", "Code", "Message", "RetryInfo"), rows)


def closings() -> str:
    """Every way in which a stream ends."""
    rows = []
    for reason in ClosingReason:
        error = CLOSINGS[reason]
        status = f"`{CODES[error].name}` `{error.reason}`" if error else "`OK`"
        resumable = "yes" if reason in RESUMABLE else "no"
        rows.append((code(reason), first_sentence(_meaning(reason)), status, resumable))
    return table(("`closing.reason`", "Why", "Status", "Resumable"), rows)


def limits() -> str:
    """Every bound with its default."""
    rows = [
        (code(name), human(name, getattr(DEFAULT, name)), meaning) for name, meaning in meanings().items()
    ]
    return table(("Bound", "Default", "What it bounds"), rows)


def settings() -> str:
    """Every setting but the bounds, with its flag and its default."""
    flags = {option.name: option.opts[0] for option in serve.params if isinstance(option, click.Option)}
    rows = []
    for variable, meaning in variables().items():
        name = variable.removeprefix(PREFIX).lower()
        if name not in Settings.model_fields:
            continue
        rows.append((code(variable), code(flags.get(name, "")), _default(name), meaning))
    return table(("Variable", "Flag", "Default", "Meaning"), rows)


def _default(name: str) -> str:
    value = Settings.model_fields[name].default
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, tuple):
        return ", ".join(code(peer.channel) for peer in value)
    return "any" if value is None else code(str(value))


def session_states() -> str:
    """Every state of a session."""
    return table(("State", "Meaning"), [(code(state), _meaning(state)) for state in SessionState])


def session_transitions() -> str:
    """Every change of a session's state, as a diagram and as a table."""
    edges = [
        ("[*]", SessionState.CREATED, SessionCause.CREATED),
        *(
            (state, target, cause)
            for state, row in sessions.TRANSITIONS.items()
            for cause, target in row.items()
        ),
    ]
    rows = [
        ("-" if source == "[*]" else code(source), code(cause), code(target), _meaning(cause))
        for source, target, cause in edges
    ]
    return f"{diagram(edges)}\n\n{table(('From', 'Cause', 'To', 'When'), rows)}"


def run_states() -> str:
    """Every state of a run and what may follow it."""
    return _stages(RunState, runs.TRANSITIONS, runs.FIRST_STATES)


def run_ends() -> str:
    """Every way in which a run ends."""
    ends = [
        (
            code(outcome),
            _meaning(outcome),
            listed(RunCause, causes),
            "yes" if outcome in runs.REPORTABLE else "no",
        )
        for outcome, causes in runs.ENDS.items()
    ]
    causes = [(code(cause), _meaning(cause)) for cause in RunCause]
    heading = ("Outcome", "Meaning", "Causes", "A runner may report it")
    return f"{table(heading, ends)}\n\n{table(('Cause', 'Meaning'), causes)}"


def interrupt_stages() -> str:
    """Every stage of an interrupt and what may follow it."""
    return _stages(InterruptStage, interrupts.STAGES, interrupts.FIRST_STAGES)


def input_stages() -> str:
    """Every stage of an input and what may follow it."""
    return _stages(InputStage, inputs.STAGES, inputs.FIRST_STAGES)


def _stages(kind: type[Enum], following: Mapping[Enum, Collection[Enum]], first: Collection[Enum]) -> str:
    edges: list[tuple[str, str, str]] = [("[*]", value, "") for value in kind if value in first]
    edges += [(value, after, "") for value in kind for after in kind if after in following[value]]
    edges += [(value, "[*]", "") for value in kind if not following[value]]
    rows = [(code(value), _meaning(value), listed(kind, following[value])) for value in kind]
    return f"{diagram(edges)}\n\n{table(('State', 'Meaning', 'May be followed by'), rows)}"


def routing() -> str:
    """The routing table."""
    rows = [(code(verb), *(row[column] for column in Column)) for verb, row in ROUTES.items()]
    return table(("", *(str(column) for column in Column)), rows)


def session_filter() -> str:
    """Every field that the filter of a session list can ask for."""
    rows = []
    for field, rule in FIELDS.items():
        name = f"{field}.<name>" if field is Field.LABEL else field
        rows.append((code(name), " ".join(map(code, rule.operators)), rule.values, code(rule.example)))
    return table(("Field", "Operators", "Value", "For example"), rows)


def events() -> str:
    """Every kind of event."""
    rows = [(code(kind.lower()), COMMENTS[f"Event.{kind.lower()}"]) for kind in EventKind]
    return table(("Body", "What happened"), rows)


def rules_of_keys() -> str:
    """Every rule about keys, by name."""
    return table(("Rule", "What it says"), [(code(rule.name), rule.value) for rule in key_rules.Rule])


def legacy_keys() -> str:
    """Every old spelling that an import knows."""
    rows = []
    for legacy in LEGACY:
        now = code(modern(legacy.example, field="raw_key")) if legacy.became else "refused"
        rows.append((code(legacy.example), now, first_sentence(legacy.meaning).rstrip(".")))
    return table(("Spelling there", "Read as", "Why"), rows)


def planted_bugs() -> str:
    """Every planted bug: the promise that it breaks, what caught it, and how fast."""
    return table(results.HEADING, results.rows())


def cli() -> str:
    """The help of every command."""
    context = root.make_context(
        "sessionplane", [], resilient_parsing=True, terminal_width=HELP_WIDTH, max_content_width=HELP_WIDTH
    )
    return "\n\n".join(_help(context))


def _help(context: click.Context) -> Iterator[str]:
    yield f"### {context.command_path}\n\n```text\n{context.get_help()}\n```"
    if isinstance(context.command, click.Group):
        for name, command in sorted(context.command.commands.items()):
            yield from _help(command.make_context(name, [], parent=context, resilient_parsing=True))


SECTIONS: dict[str, Callable[[], str]] = {
    "rpcs": rpcs,
    "errors": reasons,
    "closings": closings,
    "limits": limits,
    "settings": settings,
    "session-states": session_states,
    "session-transitions": session_transitions,
    "run-states": run_states,
    "run-ends": run_ends,
    "input-stages": input_stages,
    "interrupt-stages": interrupt_stages,
    "routing": routing,
    "events": events,
    "session-filter": session_filter,
    "key-rules": rules_of_keys,
    "legacy-keys": legacy_keys,
    "liveness": lambda: report.section(TOP / "docs/liveness.json"),
    "planted-bugs": planted_bugs,
    "cli": cli,
    "track-record": track_record,
}
"""name -> what stands between its marks."""


class DocsError(Exception):
    """A page cannot be generated; the message says where and why."""


def pages() -> list[Path]:
    """Return every page that may have generated sections."""
    return [TOP / "README.md", *sorted(TOP.glob("docs/**/*.md"))]


def renew(page: Path) -> str:
    """Return the page's text with its generated sections as they should be. Raises DocsError."""
    text = page.read_text(encoding="utf-8")
    sections = list(_SECTION.finditer(text))
    unknown = {section["name"] for section in sections} - SECTIONS.keys()
    if unknown:
        raise DocsError(f"{page.relative_to(TOP)}: nothing generates {', '.join(sorted(unknown))}")
    if len(sections) != text.count("<!-- generated: "):
        raise DocsError(
            f"{page.relative_to(TOP)}: a generated section has no <!-- end -->, or a name that is none"
        )
    return _SECTION.sub(lambda section: f"{section[1]}\n{SECTIONS[section['name']]()}\n\n{section[3]}", text)


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with `--check` only look at them; returns the exit code."""
    try:
        stale = {page: text for page in pages() if (text := renew(page)) != page.read_text(encoding="utf-8")}
    except DocsError as error:
        print(error, file=sys.stderr)
        return 1
    if "--check" in arguments:
        for page in stale:
            print(f"{page.relative_to(TOP)} is not what the code says. Run: make docs", file=sys.stderr)
        return 1 if stale else 0
    for page, text in stale.items():
        page.write_text(text, encoding="utf-8")
        print(f"wrote {page.relative_to(TOP)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
