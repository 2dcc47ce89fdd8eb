"""The bugs that are planted: what each one is, which promise it breaks, and which tests see it first.

A bug is a file `<name>.patch`: a diff of service/ under a head that says what it does. The service knows nothing of
them, so no release can reach one. `bugs()` reads them all; nothing here changes a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent


class HeadInvalid(ValueError):
    """The head of a patch does not say what it must."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """One bug. `sentence` says what it does, `breaks` names the promise as docs/promises.md does. Each of `tests` (a
    pytest id) fails with it, and says what the regular expression `saying` finds.
    """

    name: str
    patch: Path
    sentence: str
    breaks: str
    tests: Sequence[str]
    saying: str


def bugs(names: Sequence[str] = ()) -> list[Bug]:
    """Read the bugs of these names, or all of them. Raises HeadInvalid, and FileNotFoundError for an unknown name."""
    paths = [HERE / f"{name}.patch" for name in names] or sorted(HERE.glob("*.patch"))
    return [read(path) for path in paths]


def read(patch: Path) -> Bug:
    """Read a patch's head: a sentence, an empty line, and lines of the form `Word: value`. Raises HeadInvalid."""
    head, _, _ = patch.read_text(encoding="utf-8").partition("\n--- ")
    sentence, _, rest = head.partition("\n\n")
    said: dict[str, list[str]] = {}
    for line in rest.split("\n"):
        word, colon, value = line.partition(": ")
        if colon:
            said.setdefault(word, []).append(value.strip())
    try:
        (breaks,), (saying,), tests = said["Breaks"], said["Saying"], said["Caught by"]
    except (KeyError, ValueError) as error:
        raise HeadInvalid(
            f"{patch.name}: it must say `Breaks:` and `Saying:` once, and `Caught by:`"
        ) from error
    return Bug(
        name=patch.stem,
        patch=patch,
        sentence=" ".join(sentence.split()),
        breaks=breaks,
        tests=tests,
        saying=saying,
    )
