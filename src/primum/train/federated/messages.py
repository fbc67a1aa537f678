"""What travels between hospitals and the coordinator: Flower's messages, and in them what is agreed.

A site sends tensors of the names and shapes that it was sent, its name, and three numbers about itself.
"""

import io
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.app.message import Array
from numpy.lib import format
from numpy.typing import NDArray

from primum.errors import InputError
from primum.train.federated.sites import Arrays, Round

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
RECORDS, PATIENTS, NOISE, SITE = "num-examples", "patients", "noise", "site"
# What Flower says of every message is not for whoever waits for a model.
logging.getLogger("flwr").setLevel(logging.ERROR)
# No hospital has as many.
_MOST_RECORDS = 1 << 31


@dataclass(frozen=True, eq=False)
class Reply:
    """What a site sent.

    Attributes
    ----------
    site : str
    arrays : mapping of str to float array
    records, patients : int
    noise : float
        See :class:`primum.train.federated.sites.Site`.
    """

    site: str
    arrays: Arrays
    records: int
    patients: int
    noise: float = 0.0


def arrays_record(arrays: Arrays) -> ArrayRecord:
    """Pack tensors."""
    return ArrayRecord({name: Array(np.ascontiguousarray(value)) for name, value in arrays.items()})


def config_record(asked: Round) -> ConfigRecord:
    """Pack what is asked."""
    return ConfigRecord(asdict(asked))


def asked_of(message: Message) -> tuple[Arrays, Round]:
    """Unpack what the coordinator asks.

    Raises
    ------
    InputError
        It asks for something that no coordinator of this version asks.
    """
    try:
        said = dict(message.content.config_records[CONFIG])
        number = int(said.pop("server-round", said["number"]))  # type: ignore[arg-type]
        asked = Round(**{**said, "number": number})  # type: ignore[arg-type]
        record = message.content.array_records[ARRAYS]
        return {name: array.numpy() for name, array in record.items()}, asked
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "The coordinator asks for what this version does not know: use the same version of Primum at the "
            "coordinator and at every site."
        ) from error


def reply_content(
    site: str, arrays: Arrays, *, records: int, patients: int, noise: float = 0.0
) -> RecordDict:
    """Pack what a site answers."""
    return RecordDict(
        {
            ARRAYS: arrays_record(arrays),
            METRICS: MetricRecord({RECORDS: records, PATIENTS: patients, NOISE: float(noise)}),
            CONFIG: ConfigRecord({SITE: site}),
        }
    )


def read_reply(content: RecordDict, *, expected: Mapping[str, tuple[int, ...]]) -> Reply:
    """Unpack what a site answered, once it is nothing but what was agreed on.

    Parameters
    ----------
    content : RecordDict
    expected : mapping of str to tuple of int
        Shape of each tensor by its name.

    Raises
    ------
    InputError
        Other tensors, shapes or types, numbers that are not finite, a size or noise that no hospital has.
    """
    name = "?"
    try:
        name = str(content.config_records[CONFIG][SITE])[:80]
        metrics = content.metric_records[METRICS]
        records, patients, noise = metrics[RECORDS], metrics[PATIENTS], metrics[NOISE]
        sent = content.array_records[ARRAYS]
        # Shapes are looked at before any tensor is unpacked.
        if {one: tuple(array.shape) for one, array in sent.items()} != dict(expected):
            raise InputError(
                "{site} sent other tensors than it was asked for: it trains another model and is left out.",
                site=name,
            )
        size = 8 * max(1, sum(int(np.prod(shape)) for shape in expected.values())) + 4096 * (
            len(expected) + 1
        )
        if sum(len(array.data) for array in sent.values()) > size:
            raise InputError("{site} sent more than its tensors hold: it is left out.", site=name)
        arrays = {one: _numbers(array.data, expected[one]) for one, array in sent.items()}
    except (KeyError, TypeError, ValueError, EOFError) as error:
        raise InputError("{site} sent a reply that cannot be read: it is left out.", site=name) from error
    if not all(np.isfinite(value).all() for value in arrays.values()):
        raise InputError(
            "{site} sent numbers that are NaN or infinite: it is left out of this round.", site=name
        )
    counts = [one for one in (records, patients) if isinstance(one, int) and 1 <= one < _MOST_RECORDS]
    if len(counts) != 2 or counts[1] > counts[0]:
        raise InputError(
            "{site} says it has a number of patients that no hospital has: it is left out.", site=name
        )
    if not isinstance(noise, float) or not 0 <= noise < np.inf:
        raise InputError("{site} says it adds noise that nobody can add: it is left out.", site=name)
    return Reply(name, arrays, counts[0], counts[1], noise)


def _numbers(data: bytes, shape: tuple[int, ...]) -> NDArray[np.floating]:
    """Read numpy's own format as floats of one shape; what the bytes say of themselves decides nothing.

    Raises
    ------
    ValueError
        Anything else.
    """
    stream = io.BytesIO(data)
    read = {(1, 0): format.read_array_header_1_0, (2, 0): format.read_array_header_2_0}
    try:
        said, fortran, dtype = read[format.read_magic(stream)](stream)
    except Exception as error:  # the header is parsed as Python, and may make a parser raise anything
        raise ValueError("no numbers") from error
    size = prod(shape) * dtype.itemsize
    if said != shape or fortran or dtype.kind != "f" or len(data) - stream.tell() != size:
        raise ValueError("other numbers than agreed")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape)
