"""The group of all commands, what they share in --help, and what a process exits with."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from .ask import explain_key, interrupt, version
from .calls import EXIT_INTERRUPTED, EXIT_REFUSED
from .demo import demo
from .importing import import_
from .keys import keys
from .label import label
from .lifecycle import close, suspend
from .listing import runs, sessions
from .run import run
from .selftest import selftest
from .serve import serve
from .stream import stream
from .subscribers import disconnect, subscribers
from .succession import delete, reset, resolve
from .upkeep import backup, check, compact, verify

_HELP = """One key is one session, every run ends exactly once.

\b
In one terminal:      sessionplane serve
In a second one:      sessionplane stream settings2 --create
In a third one:       echo hello | sessionplane run settings2

\b
Exit codes:
  0    done
  1    refused by the server, or failed: its message and reason are on stderr
  2    the command was not understood
  3    no server could be reached
  130  interrupted
"""


@click.group(help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--target",
    envvar="SESSIONPLANE_TARGET",
    default="127.0.0.1:50051",
    show_default=True,
    show_envvar=True,
    metavar="HOST:PORT",
    help="The server to talk to.",
)
@click.pass_context
def root(context: click.Context, target: str) -> None:
    context.obj = target


for command in (
    serve,
    resolve,
    sessions,
    subscribers,
    disconnect,
    runs,
    stream,
    run,
    interrupt,
    suspend,
    close,
    reset,
    delete,
    label,
    explain_key,
    keys,
    import_,
    check,
    compact,
    verify,
    backup,
    demo,
    selftest,
    version,
):
    root.add_command(command)


def main() -> int:
    """Runs the command that the process was started with and returns the exit code."""
    # The core's own log lines are for its developers; what matters arrives as a status.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        code = root.main(prog_name="sessionplane", standalone_mode=False)
    except click.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # The reader left (| head). Nothing may be flushed into the pipe at exit either.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_REFUSED
    return code if isinstance(code, int) else 0
