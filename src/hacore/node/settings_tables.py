"""From files to checked values: reads the settings and their drop-ins, decodes each key by itself, merges the files.

Each file is decoded on its own before anything is replaced, so that a mistake is found also where another file hides
it. Of a table that occurs once, a later file replaces single keys; of an array of tables, it replaces the whole table
of the same name, or adds one.
"""

from __future__ import annotations

import functools
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct
from msgspec.structs import FieldInfo, fields

from hacore.configsync.own_settings import replaced_tables
from hacore.errors import Problem
from hacore.node.settings_values import shown, shown_key

#: A settings file larger than this is something else by mistake; it bounds what a typo in a path can load into memory.
LARGEST_FILE_BYTES = 4 << 20

Single = Mapping[str, type[Struct]]
Many = Mapping[str, tuple[type[Struct], str]]
Report = Callable[[str, str], None]


@functools.cache
def _fields(kind: type[Struct]) -> tuple[FieldInfo, ...]:
    """Those of a table; to work them out takes a quarter of a millisecond, and there may be a thousand tables."""
    return fields(kind)


class Entry:
    """One table as far as it could be decoded: `values` holds the right keys and the defaults of those not given.

    `label` is how messages name it, such as `carp`, `vip "lan"`, or `vip[2]` (counted from 1) where the name itself
    is missing or wrong.
    """

    def __init__(self, document: Document, kind: type[Struct], label: str, file: str) -> None:
        self.document = document
        self.kind = kind
        self.label = label
        self.file = file
        self.given: dict[str, str] = {}
        self.values: dict[str, Any] = {}

    def locate(self, key: str) -> tuple[str, str]:
        """The file and the full name of `key`, for a Problem."""
        separator = ": " if self.label.endswith('"') else "."
        return self.given.get(key.partition("[")[0], self.file), f"{self.label}{separator}{key}"

    def problem(self, key: str, message: str) -> None:
        """Reports that `key` is wrong."""
        self.document.problems.append(Problem(*self.locate(key), message))

    def warning(self, key: str, message: str) -> None:
        """Reports something about `key` that the node can live with."""
        self.document.warnings.append(Problem(*self.locate(key), message))

    def get(self, key: str) -> Any:
        """The value of `key`, or None where it is absent or wrong."""
        return self.values.get(key)

    def right(self, *keys: str) -> bool:
        """Whether every one of `keys` has a value: given and right, or by default."""
        return all(key in self.values for key in keys)

    def take(self, raw: Mapping[str, object]) -> None:
        """Decodes the keys of one file's table; each that is wrong becomes a problem."""
        known = {field.name for field in _fields(self.kind)}
        for key in raw:
            self.given[key] = self.file
            if key not in known:
                self.problem(shown_key(key), self.document.unknown(key, known))
        for field in _fields(self.kind):
            if field.name in raw:
                try:
                    self.values[field.name] = self.decode(field.type, field.name, raw[field.name])
                except _Wrong:
                    continue

    def take_over(self, later: Entry) -> None:
        """Puts the keys that a later file gives in place of this one's."""
        for key, file in later.given.items():
            self.given[key] = file
            self.values.pop(key, None)
            if key in later.values:
                self.values[key] = later.values[key]

    def complete(self) -> None:
        """Sets the defaults, and reports what has none and is missing."""
        for field in _fields(self.kind):
            if field.name in self.given:
                continue
            if field.default is not NODEFAULT:
                self.values[field.name] = field.default
            elif field.default_factory is not NODEFAULT:
                self.values[field.name] = field.default_factory()
            else:
                self.problem(field.name, "is missing")

    def decode(self, kind: Any, key: str, raw: object) -> Any:
        """`raw` as a value of the annotated type `kind`; raises _Wrong after reporting each problem."""
        if get_origin(kind) in (Union, UnionType):
            kind = next(part for part in get_args(kind) if part is not type(None))
        if get_origin(kind) is Annotated:
            return self.decode_one(kind, key, raw)
        if get_origin(kind) is tuple:
            return self.decode_list(get_args(kind)[0], key, raw)
        return self.decode_table(kind, key, raw)

    def decode_one(self, kind: Any, key: str, raw: object) -> Any:
        """A single value: by the annotation's own function, or by msgspec with its description as the message."""
        meta = next(part for part in get_args(kind) if isinstance(part, Meta))
        extra = meta.extra or {}
        try:
            if "parse" not in extra:
                return msgspec.convert(raw, kind, strict=True)
            value = extra["parse"](raw)
        except msgspec.ValidationError:
            self.problem(key, f"must be {meta.description}, not {shown(raw)}")
            raise _Wrong from None
        except (TypeError, ValueError) as error:
            for message in error.args:
                self.problem(key, message)
            raise _Wrong from None
        return self.document.base / value if extra.get("relative_to") == "settings file" else value

    def decode_list(self, kind: Any, key: str, raw: object) -> tuple[Any, ...]:
        """A list, each element by itself; elements are counted from 1 in messages."""
        if not isinstance(raw, list):
            self.problem(key, f"must be a list, not {shown(raw)}")
            raise _Wrong
        found, wrong = [], False
        for index, item in enumerate(raw, 1):
            try:
                found.append(self.decode(kind, f"{key}[{index}]", item))
            except _Wrong:
                wrong = True
        if wrong:
            raise _Wrong
        return tuple(found)

    def decode_table(self, kind: type[Struct], key: str, raw: object) -> Struct:
        """A table inside this one."""
        if not isinstance(raw, dict):
            self.problem(
                key, f"must be a table with the keys {_listed(field.name for field in _fields(kind))}, not {shown(raw)}"
            )
            raise _Wrong
        before = len(self.document.problems)
        inner = Entry(self.document, kind, self.locate(key)[1], self.file)
        inner.take(raw)
        inner.complete()
        if len(self.document.problems) > before:
            raise _Wrong
        return inner.build()

    def build(self) -> Struct:
        """The struct; only for an entry without problems."""
        return self.kind(**self.values)


class _Wrong(Exception):
    """Reported already; ends the decoding of one key."""


class Document:
    """All the files, laid over each other, with what was found wrong in them."""

    def __init__(self, base: Path, single: Single, many: Many, staged: str = "") -> None:
        self.base = base
        self.staged = staged
        self.files: list[str] = []
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.single: dict[str, Entry] = {}
        self.many: dict[str, list[Entry]] = {name: [] for name in many}
        self._single = single
        self._many = many

    def place(self, file: str) -> str:
        """Where a file is to be read: what is staged for it, else itself."""
        staged = f"{self.staged}{file}"
        return staged if self.staged and os.path.exists(staged) else file

    def entries(self, table: str) -> list[Entry]:
        """The tables of the array `table`, in order."""
        return self.many[table]

    def unknown(self, key: str, known: set[str]) -> str:
        """The message for a key that this table does not have."""
        from difflib import get_close_matches

        kinds = {f"[{name}]": kind for name, kind in self._single.items()}
        kinds |= {f"[[{name}]]": kind for name, (kind, _) in self._many.items()}
        homes = [header for header, kind in kinds.items() if key in kind.__struct_fields__]
        near = get_close_matches(key, sorted(known), 1)
        if near:
            return f"is not a key of this table; did you mean {near[0]}?"
        if len(homes) == 1:
            return f"is not a key of this table; it belongs in {homes[0]}"
        return f"is not a key of this table; there are: {_listed(sorted(known))}"

    def take_file(self, file: str) -> None:
        """Reads and decodes one file and lays it over those before it."""
        self.files.append(file)
        raw = self._read(file)
        known = {*self._single, *self._many}
        pushed = self._make_way(raw)
        for table, content in raw.items():
            if table in self._single:
                if isinstance(content, dict):
                    self._take_single(table, content, file)
                else:
                    self.problems.append(
                        Problem(file, table, f"must be a table, written [{table}], not {shown(content)}")
                    )
            elif table in self._many:
                if isinstance(content, list) and all(isinstance(one, dict) for one in content):
                    self._take_many(table, content, file, keep_local=table in pushed)
                else:
                    self.problems.append(Problem(file, table, f"must be an array of tables, each written [[{table}]]"))
            else:
                self.problems.append(Problem(file, shown_key(table), self._unknown_table(table, known)))

    def _make_way(self, raw: Mapping[str, Any]) -> set[str]:
        """For a file with `[synced]`: forgets the tables that a push has replaced; returns their kinds."""
        synced = raw.get("synced")
        sections = synced.get("sections") if isinstance(synced, dict) else None
        tables = replaced_tables(sections) if isinstance(sections, list) else set()
        for table in tables & self.many.keys():
            self.many[table] = [entry for entry in self.many[table] if entry.values.get("sync", True) is False]
        return tables

    def complete(self) -> None:
        """Sets all defaults. `[node]` and `[carp]` are there even when no file has them."""
        for table in ("node", "carp"):
            if table not in self.single:
                self.single[table] = Entry(self, self._single[table], table, self.files[0])
        for entry in (*self.single.values(), *(entry for entries in self.many.values() for entry in entries)):
            entry.complete()

    def _unknown_table(self, table: str, known: set[str]) -> str:
        from difflib import get_close_matches

        near = get_close_matches(table, sorted(known), 1)
        written = [f"[{name}]" if name in self._single else f"[[{name}]]" for name in (near or sorted(known))]
        hint = f"did you mean {written[0]}?" if near else f"there are: {_listed(written)}"
        return f"is not a table of the settings; {hint}"

    def _read(self, file: str) -> dict[str, Any]:
        try:
            with open(self.place(file), "rb") as stream:
                data = stream.read(LARGEST_FILE_BYTES + 1)
            if len(data) > LARGEST_FILE_BYTES:
                raise ValueError(f"is larger than {LARGEST_FILE_BYTES >> 20} MiB, which no settings file is")
            return tomllib.loads(data.decode())
        except FileNotFoundError:
            self.problems.append(Problem(file, "", "does not exist; write it, or name another with --settings"))
        except OSError as error:
            self.problems.append(Problem(file, "", f"cannot be read: {error.strerror}"))
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            self.problems.append(Problem(file, "", f"line {line} is not UTF-8, which TOML has to be"))
        except tomllib.TOMLDecodeError as error:
            self.problems.append(Problem(file, "", f"is not TOML: {error}"))
        except RecursionError:
            self.problems.append(Problem(file, "", "is not usable TOML: its values are nested too deeply"))
        except ValueError as error:
            self.problems.append(Problem(file, "", str(error)))
        return {}

    def _take_single(self, table: str, raw: dict[str, Any], file: str) -> None:
        entry = Entry(self, self._single[table], table, file)
        entry.take(raw)
        if table in self.single:
            self.single[table].take_over(entry)
        else:
            self.single[table] = entry

    def _take_many(self, table: str, raws: list[dict[str, Any]], file: str, *, keep_local: bool) -> None:
        kind, naming = self._many[table]
        places: dict[str, int] = {}
        replaceable = {entry.get(naming): index for index, entry in enumerate(self.many[table]) if entry.get(naming)}
        for index, raw in enumerate(raws, 1):
            entry = Entry(self, kind, self._label(kind, naming, table, index, raw), file)
            entry.take(raw)
            name = cast("str | None", entry.get(naming))
            if name is not None and name in places:
                entry.label = f"{table}[{index}]"
                entry.problem(
                    naming, f'"{name}" names {table}[{places[name]}] already; every [[{table}]] needs its own'
                )
            if keep_local and name in replaceable:
                continue  # this node's own
            if name is not None and name in replaceable:
                self.many[table][replaceable.pop(name)] = entry
            else:
                self.many[table].append(entry)
            if name is not None:
                places.setdefault(name, index)

    def _label(self, kind: type[Struct], naming: str, table: str, index: int, raw: dict[str, Any]) -> str:
        trial = Entry(Document(self.base, self._single, self._many), kind, "", "")
        trial.take({naming: raw[naming]} if naming in raw else {})
        return f'{table} "{trial.get(naming)}"' if trial.right(naming) else f"{table}[{index}]"


def read_document(main: Path, single: Single, many: Many, staged: str = "") -> Document:
    """The file `main` and, sorted by name, `main.d/*.toml` beside it, decoded and laid over each other.

    A file that lies in the directory `staged` under its whole path is read in the place of the one there.
    """
    document = Document(main.parent, single, many, staged)
    document.take_file(str(main))
    directory = f"{main}.d"
    names: set[str] = set()
    for place in (directory, *([f"{staged}{directory}"] if staged else [])):
        try:
            names |= {name for name in os.listdir(place) if name.endswith(".toml") and not name.startswith(".")}
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            document.problems.append(Problem(directory, "", f"cannot be read: {error.strerror}"))
    for name in sorted(names):
        document.take_file(os.path.join(directory, name))
    document.complete()
    return document


def _listed(words: Any) -> str:
    return ", ".join(words)
