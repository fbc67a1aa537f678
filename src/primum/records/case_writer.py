"""Writes cases as the folder that :mod:`primum.records.case_folder` reads."""

import csv
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from primum.errors import InputError
from primum.records.cases import Cases, Inputs, join_cases
from primum.records.histories import FloatArray

Columns = dict[str, list[str]]


def write_cases(
    folder: Path, splits: Mapping[str, Cases], classes: tuple[str, ...], *, schema: str | None = None
) -> None:
    """Write cases.csv, classes.txt, and the inputs in the layout that their form asks for.

    Inputs of one shape go to inputs.npy, bags to one npz file each, letters of shape (n, letters) or one
    dimension each into the column ``sequence``, and with a `schema` features into columns of their own.

    Parameters
    ----------
    folder : Path
        Made if it is not there; must be empty.
    splits : mapping of str to Cases
        By name of the split: train, tuning, held_out. Attributes that one of them lacks are left out.
    classes : tuple of str
    schema : str or None
        The text of schema.toml, for tables.

    Raises
    ------
    InputError
        The folder has files in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError("{path} is not empty: name a new folder.", path=str(folder))
    whole = join_cases(list(splits.values()))
    columns: Columns = {
        "subject_id": [str(one) for one in whole.subject_ids],
        "split": [name for name, cases in splits.items() for _ in range(len(cases))],
        "label": [classes[label] for label in whole.labels],
    }
    for name, values in whole.attributes.items():
        columns[name] = [_cell(one) for one in values.tolist()]
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    if schema is None:
        columns |= _write_inputs(folder, whole.inputs)
    else:
        (folder / "schema.toml").write_text(schema, encoding="utf-8")
        columns |= dict(_feature_cells(np.asarray(whole.inputs), schema))
    with (folder / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_inputs(folder: Path, inputs: Inputs) -> Columns:
    """Write inputs and return the columns that say where they are."""
    if inputs[0].ndim == 1 and inputs[0].dtype == np.uint8:
        return {"sequence": [one.tobytes().decode("ascii") for one in inputs]}
    if isinstance(inputs, np.ndarray):
        np.save(folder / "inputs.npy", inputs, allow_pickle=False)
        return {"row": [str(place) for place in range(len(inputs))]}
    (folder / "bags").mkdir()
    names = [f"bags/{place:06d}.npz" for place in range(len(inputs))]
    for name, tiles in zip(names, inputs, strict=True):
        np.savez(folder / name, tiles=tiles)
    return {"file": names}


def _feature_cells(rows: FloatArray, schema: str) -> Iterator[tuple[str, list[str]]]:
    first = 0
    for name, feature in tomllib.loads(schema).items():
        if feature["kind"] == "category":
            width = len(feature["values"])
            chosen = rows[:, first : first + width]
            values = np.where(chosen.any(1), np.array(feature["values"])[chosen.argmax(1)], "")
            yield name, values.tolist()
        else:
            width, boolean = 1, feature["kind"] == "boolean"
            yield (
                name,
                [_cell(bool(one) if boolean and one == one else one) for one in rows[:, first].tolist()],
            )
        first += width


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if value != value else repr(int(value) if value.is_integer() else value)
    return "" if value is None else str(value)
