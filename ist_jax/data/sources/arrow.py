"""Tables of Arrow and Parquet: the files of a saved set.

What a table takes in memory is bounded by the size of its files, and what they say of themselves is
checked before it is used.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ist_jax.core.errors import InputError, first_line
from ist_jax.data import files, own

DICT, STATE = "dataset_dict.json", "state.json"
AT_ONCE = 128  # rows of a Parquet file


def tables(place: Path, how: str) -> tuple[dict[str, Any], list[Path]]:
    """A table ``train``, perhaps one ``test``, and the files that they are in.

    Raises:
      InputError: no saved set is there, or a file is damaged.
    """
    found = _files(place, how)
    read = {part: _joined([_table(file) for file in its], place) for part, its in found.items()}
    for part, table in read.items():
        if not len(table):
            raise InputError(f"{place}: its {part} part has no row")
        if table.column_names != read["train"].column_names:
            raise InputError(f"{place}: its parts have unlike columns")
    return read, [file for its in found.values() for file in its]


def _files(place: Path, how: str) -> dict[str, list[Path]]:
    """Of each part."""
    if not place.is_dir():
        return {"train": [place]}
    if (place / DICT).exists():
        names = _json(place / DICT).get("splits")
        if not isinstance(names, list) or "train" not in names:
            raise InputError(f"{place / DICT} names no part 'train', but {names!r:.80}")
        held = next((part for part in own.TESTS if part in names), None)
        parts = {"train": "train", **({"test": held} if held else {})}
        return {ours: _saved(place / name) for ours, name in parts.items()}
    if (place / STATE).exists():
        return {"train": _saved(place)}
    parquet = sorted((*place.glob("*.parquet"), *place.glob("data/*.parquet")))
    if not parquet:
        raise InputError(f"{place} holds no saved set; {how}")
    train = [file for file in parquet if file.name.startswith("train")]
    for part in own.TESTS:
        if test := [file for file in parquet if file.name.startswith(part)]:
            if not train:
                raise InputError(f"{place} has {test[0].name} but no train*.parquet; {how}")
            return {"train": train, "test": test}
    return {"train": train or parquet}


def _saved(folder: Path) -> list[Path]:
    """The files that a saved ``Dataset`` names."""
    listed = _json(folder / STATE).get("_data_files")
    names = [one.get("filename") for one in listed] if isinstance(listed, list) else []
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise InputError(f"{folder / STATE} does not name the files of the set; save it again")
    return [folder / name for name in names]


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(files.read(file, ""))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} is not JSON: {error!s:.80}. Save the set again") from None
    if not isinstance(found, dict):
        raise InputError(f"{file} must be a JSON object. Save the set again")
    return found


def _table(file: Path) -> Any:
    """A file's rows, those of an Arrow file mapped into memory."""
    import pyarrow

    allowed = files.most(file) if file.is_file() else 0
    kept, used = [], 0
    try:
        with files.opened(file, "") as opened:
            schema, batches = _batches(file, opened)
            for batch in batches:
                batch.validate(full=True)
                used += batch.nbytes
                if used > allowed:
                    raise InputError(
                        f"{file} unpacks to more than {allowed} bytes, {files.SPREAD} times its "
                        "own size: it is damaged"
                    )
                kept.append(batch)
        table = pyarrow.Table.from_batches(kept, schema)
        _ = table.column_names  # fails, here, if a name is not UTF-8
        return table
    except InputError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise InputError(f"{file} cannot be read: {first_line(error):.200}") from None


def _batches(file: Path, opened: Any) -> tuple[Any, Iterator[Any]]:
    import pyarrow
    import pyarrow.parquet

    if file.suffix == ".parquet":
        found = pyarrow.parquet.ParquetFile(opened)
        groups = (found.metadata.row_group(i) for i in range(found.metadata.num_row_groups))
        if sum(group.total_byte_size for group in groups) > files.most(file):
            raise InputError(f"{file} declares more than {files.SPREAD} times its own size")
        return found.schema_arrow, found.iter_batches(AT_ONCE, use_threads=False)
    mapped = pyarrow.memory_map(str(file))
    for message in pyarrow.ipc.MessageReader.open_stream(mapped):
        if message.type == "dictionary" or _is_packed(message.metadata.to_pybytes()):
            raise InputError(
                f"{file} is compressed inside, which save_to_disk does not do. Load it with "
                "datasets and save it again"
            )
    mapped.seek(0)
    reader = pyarrow.ipc.open_stream(mapped)
    return reader.schema, iter(reader)


def _is_packed(message: bytes) -> bool:
    """Whether a message of Arrow's format has a body that is compressed, which could be any size.

    It is a table of FlatBuffers, ``Message``; its third field is the header, a ``RecordBatch``,
    whose fourth field is there if the body is compressed (Message.fbs of Apache Arrow).
    """

    def field(table: int, number: int) -> int:
        fields = table - struct.unpack_from("<i", message, table)[0]
        if 4 + 2 * number >= struct.unpack_from("<H", message, fields)[0]:
            return 0
        return int(struct.unpack_from("<H", message, fields + 4 + 2 * number)[0])

    table = struct.unpack_from("<I", message)[0]
    place = table + field(table, 2)
    return field(place + struct.unpack_from("<I", message, place)[0], 3) > 0


def _joined(parts: list[Any], place: Path) -> Any:
    import pyarrow

    if any(part.schema != parts[0].schema for part in parts):
        raise InputError(f"{place}: its files have unlike columns")
    return pyarrow.concat_tables(parts)
