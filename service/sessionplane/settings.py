"""What the operator of one server may choose: from flags, else the environment, else the defaults.

Everything is read and judged once, before anything is opened or bound, and never changes afterwards.
Each field's description is its line in the table of docs/operations.md.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from sessionplane.domain.freshness import Freshness, FreshnessSettings
from sessionplane.domain.keys import KeySettings, OpaquePeer
from sessionplane.domain.limits import DEFAULT, Limits, meanings

PREFIX: Final = "SESSIONPLANE_"

# Read by clients and the command line, never by a server: they may stand in the same environment.
CLIENT_VARIABLES: Final = frozenset({"SESSIONPLANE_TARGET"})

_HOST_AND_PORT: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<name>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")
_PORT_MAX: Final = 65_535
_SOCKET_PATH_BYTES_MAX: Final = 107  # Linux: sockaddr_un holds 108 bytes, one of them the closing zero
_LIMIT_MAX: Final = 2**53  # exact in JSON and far inside SQLite's integers
_KEYS: Final = KeySettings()

# What is wrong with a value of the wrong type, by the library's name for that.
_WORDS: Final = {
    "int_parsing": "write a whole number",
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "string_type": "write a text in quotes",
    "dict_type": "write a JSON object",
    "dataclass_type": "write a JSON object",
    "tuple_type": "write a JSON list",
    "frozen_set_type": "write a JSON list",
    "literal_error": "write {expected}",
    "missing": "this is missing",
    "unexpected_keyword_argument": "there is no such field; remove it",
}

# Bounds that contradict each other would refuse every request: each row must not fall.
_RISING: Final = (
    ("lease_ms_min", "lease_ms_default", "lease_ms_max"),
    ("interrupt_grace_ms_default", "interrupt_grace_ms_max"),
    ("timeout_ms_min", "start_timeout_ms_default", "start_timeout_ms_max"),
    ("timeout_ms_min", "run_timeout_ms_default", "run_timeout_ms_max"),
    ("wait_margin_ms_min", "wait_ms_max"),
    ("payload_bytes_max", "publish_bytes_max", "request_bytes_max"),
)


class SettingsInvalid(Exception):
    """The settings cannot be used. `problems` holds one sentence for each thing to mend."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens: host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError with a sentence. Names are not looked up."""
        if text.startswith("unix:"):
            return cls(path=_socket_path(text.removeprefix("unix:")))
        match = _HOST_AND_PORT.fullmatch(text)
        if match is None or int(match["port"]) > _PORT_MAX:
            raise ValueError(
                f"{text!r} is not an address. Write host:port, [IPv6]:port or unix:/path/to.sock,"
                f" with a port from 0 (any free one) to {_PORT_MAX}"
            )
        if match["v6"] and not (":" in match["v6"] and _is_ip(match["v6"])):
            raise ValueError(f"{text!r} has no IPv6 address in its brackets")
        return cls(host=match["v6"] or match["name"], port=int(match["port"]))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it, as far as the text tells: other names are not trusted."""
        if self.path or self.host.lower() == "localhost":
            return True
        return _is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _socket_path(text: str) -> str:
    path = "/" + text.lstrip("/")
    if not text.startswith("/") or path == "/" or len(path.encode()) > _SOCKET_PATH_BYTES_MAX:
        raise ValueError(
            f"'unix:{text}' is not a unix socket. Write unix: and an absolute path"
            f" of at most {_SOCKET_PATH_BYTES_MAX} bytes."
        )
    return path


def _listen(text: str) -> str:
    Address.parse(text)
    return text


def _database(path: Path) -> Path:
    if str(path) in {".", ":memory:"}:
        raise ValueError(
            f"{str(path)!r} is not a file. Sessions outlive the process, so name a file for them."
        )
    return path


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _names(value: object) -> object:
    """From the environment a list is text with commas."""
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


def _from_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, object_pairs_hook=_without_repeats)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"this is not JSON ({error})") from None


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """JSON keeps the last of two equal names in silence; whoever wrote both meant something by each."""
    names = [name for name, _ in pairs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{repeated[0]!r} is there twice")
    return dict(pairs)


def _of_known_kinds(policies: dict[str, Freshness]) -> dict[str, Freshness]:
    FreshnessSettings(policies=policies)
    return policies


def _sane(limits: Limits) -> Limits:
    values = {each.name: getattr(limits, each.name) for each in fields(limits)}
    problems = [
        f"limits.{name} is {value}, but must be from 1 to {_LIMIT_MAX}"
        for name, value in values.items()
        if not 1 <= value <= _LIMIT_MAX
    ]
    problems += [
        f"limits.{low} is {values[low]}, above limits.{high}, which is {values[high]}"
        for row in _RISING
        for low, high in pairwise(row)
        if values[low] > values[high]
    ]
    if problems:
        raise ValueError("\n".join(problems))
    return limits


class Settings(BaseSettings):
    """The settings of one server. Use `load`, which says what is wrong in sentences."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="forbid", frozen=True
    )

    listen: Annotated[str, AfterValidator(_listen)] = Field(
        default="127.0.0.1:50051",
        description="where to listen: `host:port`, `[IPv6]:port` or `unix:/path`; port 0 takes any free one",
    )
    db: Annotated[Path, AfterValidator(_database)] = Field(
        default=Path("sessionplane.db"), description="the database file, on a local disk; created if missing"
    )
    insecure_bind: bool = Field(
        default=False,
        description="allow an address that other machines reach, although there is no transport security yet",
    )
    reflection: bool = Field(
        default=True, description="answer gRPC reflection, so that grpcurl needs no protos"
    )
    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower)] = Field(
        default="console", description="log lines for people (`console`) or machines (`json`)"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        default="info", description="the least severe lines to log: `debug`, `info`, `warning` or `error`"
    )
    default_agent: str = Field(default=_KEYS.default_agent, description="the agent of a key that names none")
    main_key: str = Field(default=_KEYS.main_key, description="a further spelling of the key `main`")
    agents: Annotated[frozenset[str] | None, NoDecode, BeforeValidator(_names)] = Field(
        default=_KEYS.agents,
        description="the only agents that keys may name, with commas between; unset: any",
    )
    opaque_peers: Annotated[tuple[OpaquePeer, ...], NoDecode, BeforeValidator(_from_json)] = Field(
        default=_KEYS.opaque_peers,
        description="the channels whose peer ids keep their case, as a JSON list of"
        ' `{"channel": ..., "markers": [...], "whole_tail": ...}`',
    )
    freshness: Annotated[
        dict[str, Freshness], NoDecode, BeforeValidator(_from_json), AfterValidator(_of_known_kinds)
    ] = Field(
        default={},
        description="when a key gets a new session by itself, by kind of key, as a JSON object of"
        ' `{"daily": {"hour": ..., "zone": ...}, "idle": {"minutes": ...}}`; see [below](#freshness)',
    )
    limits: Annotated[Limits, AfterValidator(_sane)] = Field(
        default=DEFAULT,
        description="the bounds, each set on its own: `SESSIONPLANE_LIMITS__LEASE_MS_DEFAULT=20000`",
    )

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read the environment, with what is given (and not None) before it. Raises SettingsInvalid."""
        given = {name: value for name, value in given.items() if value is not None}
        strays = _strays(os.environ)
        problems = list(strays.values())
        try:
            settings = cls(**given)
        except ValidationError as error:
            for each in error.errors():
                where = _where(each["loc"], given)
                if where not in strays:
                    problems += _sentences(where, _in_our_words(each), each["input"])
        except SettingsError as error:
            problems = problems or [f"{error}."]
        if problems:
            raise SettingsInvalid(problems)
        return settings

    @model_validator(mode="after")
    def _judge(self) -> Self:
        self.key_settings()
        if not self.is_loopback and not self.insecure_bind:
            raise ValueError(
                f"listen {self.listen} is reachable from other machines, and there is no transport security"
                " yet: whoever reaches it may read and change everything. Listen on 127.0.0.1 or a unix"
                f" socket, or set insecure_bind ({_variable('insecure_bind')}=true) if only trusted clients"
                " reach it"
            )
        return self

    @property
    def address(self) -> Address:
        return Address.parse(self.listen)

    @property
    def host(self) -> str:
        """Without brackets; empty for a unix socket."""
        return self.address.host

    @property
    def port(self) -> int:
        """As it was set: 0 stands for any free one, and for a unix socket."""
        return self.address.port

    @property
    def is_loopback(self) -> bool:
        return self.address.is_loopback

    def key_settings(self) -> KeySettings:
        """What the canonicaliser needs. Its own refusals are settings errors here."""
        return KeySettings(
            default_agent=self.default_agent,
            main_key=self.main_key,
            agents=self.agents,
            opaque_peers=self.opaque_peers,
        )

    def freshness_settings(self) -> FreshnessSettings:
        """When the session of a key is too old to go on, by kind of key."""
        return FreshnessSettings(policies=self.freshness)


def variables() -> dict[str, str]:
    """Every environment variable of a server with its one-line meaning, in the order of the tables."""
    flat = {
        name: field.description or "" for name, field in Settings.model_fields.items() if name != "limits"
    }
    nested = {f"limits__{name}": meaning for name, meaning in meanings().items()}
    return {_variable(name): meaning for name, meaning in (flat | nested).items()}


def _variable(name: str) -> str:
    return (PREFIX + name).upper()


def _strays(environ: Mapping[str, str]) -> dict[str, str]:
    """A sentence for each unknown variable: a mistyped bound must not silently fail to hold."""
    known = variables().keys() | CLIENT_VARIABLES
    endings = [name.removeprefix(PREFIX) for name in known]
    found = {}
    for name in sorted(environ):
        upper = name.upper()
        if upper.startswith(PREFIX) and upper not in known:
            near = difflib.get_close_matches(upper.removeprefix(PREFIX), endings, n=1)
            hint = f"Did you mean {PREFIX}{near[0]}?" if near else "Remove it."
            found[upper] = f"{name} is no setting of sessionplane. {hint}"
    return found


def _where(loc: tuple[int | str, ...], given: Mapping[str, object]) -> str:
    """The name by which the operator knows a value: its variable, or the setting if that was given."""
    path = [str(part) for part in loc]
    if not path or path[0] in given:
        return ".".join(path)
    depth = 2 if path[0] == "limits" else 1
    return ".".join([_variable("__".join(path[:depth])), *path[depth:]])


def _in_our_words(error: ErrorDetails) -> str:
    """Say what to write instead; what has no words here keeps the library's."""
    words = _WORDS.get(error["type"], error["msg"])
    return words.format(**error.get("ctx", {})) if words is not error["msg"] else words


def _sentences(where: str, message: str, value: object) -> Iterable[str]:
    """Our own refusals name what they are about, if it takes several settings to make the problem."""
    if not message.startswith("Value error, "):
        shown = f" (it is {value!r})" if isinstance(value, str | int) else ""
        return [f"{where}: {message}{shown}."]
    lines = message.removeprefix("Value error, ").splitlines()
    named = not where or lines[0].startswith("limits.")
    return [f"{line.rstrip('.')}." if named else f"{where}: {line.rstrip('.')}." for line in lines]
