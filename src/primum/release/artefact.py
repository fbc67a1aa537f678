"""The files of a model as the registry keeps them: copied, then hashed from the copy; no pickle, no link."""

import os
import pickletools
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from primum.errors import InputError, MachineError, ModelError, clean_text
from primum.evidence.identity import file_digest, manifest_digest
from primum.release.shelf import keep_name

Format = Literal["safetensors", "onnx"]
# What no door reads: kept and hashed beside the model, no part of what it is.
INERT: Final = frozenset(
    {
        "README.md",
        "LICENSE",
        "LICENSE.txt",
        "NOTICE",
        ".gitattributes",
        "receipt.json",
        "generation_config.json",
        "special_tokens_map.json",
    }
)
_REFUSED: Final = frozenset(
    {".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth", ".py"}
)
_MOST_FILES, _HEAD = 10_000, 1 << 16
# Archives compressed as a whole, as joblib writes them, hide what is in them.
_PACKED: Final = (
    *(b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"]\x00\x00", b"ZF0x"),
    *(b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"),
)


@dataclass(frozen=True)
class Artefact:
    """What a model consists of.

    Attributes
    ----------
    digest : str
        Of the manifest of all files that shape an answer: the digest that an audit of the folder computes.
    format : {"safetensors", "onnx"}
    files, beside : mapping of str to str
        Relative path to sha256: what shapes an answer, and what does not.
    """

    digest: str
    format: Format
    files: Mapping[str, str]
    beside: Mapping[str, str]


def copy_artefact(source: Path, target: Path) -> None:
    """Copy a model folder, or one ``.onnx`` file as ``model.onnx``, durably.

    Raises
    ------
    ModelError
        A link, something that is no file, a pickle, or no model.
    MachineError
        The disk refuses.
    """
    if source.is_symlink() or not (source.is_dir() or source.is_file()):
        raise ModelError(
            "{path} is no model folder and no .onnx file: give one; links are not followed.",
            path=clean_text(source),
        )
    single = source.is_file()
    if single and source.suffix != ".onnx":
        _require_plain(source, source.name)
        raise ModelError(
            "{path} is no model folder and no .onnx file: give one; links are not followed.",
            path=clean_text(source),
        )
    names = {"model.onnx": source} if single else {_relative(one, source): one for one in _walk(source)}
    for name, file in names.items():
        copy = target / name
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy, follow_symlinks=False)
            with copy.open("rb+") as stream:
                os.fsync(stream.fileno())
            keep_name(copy.parent)
        except OSError as error:
            raise MachineError(
                "{file} cannot be copied ({reason}): look at the disk and repeat the command; nothing was "
                "changed.",
                file=clean_text(name),
                reason=error.strerror or type(error).__name__,
            ) from error
        # The copy, not the file that it was made of, which may change meanwhile.
        _require_plain(copy, name)


def read_artefact(folder: Path, *, more: Mapping[str, str] | None = None) -> Artefact:
    """Hash the files of a kept model.

    Parameters
    ----------
    folder : Path
    more : mapping, optional
        Digests of what else shapes an answer: the source of a factory.

    Raises
    ------
    ModelError
        A link, or neither ``.safetensors`` nor ``model.onnx`` in it.
    """
    digests = {_relative(one, folder): file_digest(one) for one in _walk(folder)}
    files = {name: digest for name, digest in digests.items() if name not in INERT} | dict(more or {})
    kinds = {Path(name).suffix for name in files}
    if "model.onnx" not in files and ".safetensors" not in kinds:
        raise ModelError(
            "{path} holds neither model.onnx nor weights in .safetensors: save the model in one of these.",
            path=clean_text(folder.name),
        )
    files = dict(sorted(files.items()))
    kind: Format = "onnx" if "model.onnx" in files else "safetensors"
    beside = {name: digest for name, digest in sorted(digests.items()) if name in INERT}
    return Artefact(manifest_digest(files), kind, files, beside)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield every file, sorted; refuse links and what is neither file nor folder."""
    found = sorted(folder.rglob("*"))
    if len(found) > _MOST_FILES:
        raise ModelError("{path} holds more than {most} files.", path=clean_text(folder), most=_MOST_FILES)
    for one in found:
        mode = one.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            raise ModelError(
                "{file} is a link or not a file: copy the file itself into the model folder.",
                file=clean_text(one.relative_to(folder)),
            )
        yield one


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _require_plain(file: Path, name: str) -> None:
    """Refuse what could run a program when opened, by its name and by its first bytes."""
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    onnx = name.endswith(".onnx")
    if (
        file.suffix in _REFUSED
        or (not onnx and (is_pickle(head) or head.startswith(_PACKED)))
        or zipfile.is_zipfile(file)
    ):
        raise ModelError(
            "{file} is a pickle, a program or a packed file, which could run anything when opened: save the "
            "weights as safetensors or ONNX instead.",
            file=clean_text(name),
        )


def is_pickle(head: bytes) -> bool:
    r"""Tell whether bytes begin as a pickle does, of any protocol.

    Examples
    --------
    >>> import pickle
    >>> [is_pickle(pickle.dumps({"a": 1}, protocol)) for protocol in range(6)]
    [True, True, True, True, True, True]
    >>> is_pickle(b'{"a": 1}'), is_pickle(b"# A card\n"), is_pickle(b"")
    (False, False, False)
    """
    if head[:1] == b"\x80" and head[1:2] <= b"\x05" and len(head) > 2:
        return True
    try:
        for steps, (opcode, _, _) in enumerate(pickletools.genops(head), start=1):
            if opcode.name == "STOP":
                # One opcode and a stop is what a short text may look like by chance.
                return steps > 2
            if opcode.name in ("GLOBAL", "INST", "REDUCE", "BUILD") and steps > 1:
                return True
    except (ValueError, IndexError, OverflowError, UnicodeDecodeError, AttributeError):
        return False
    return False


def require_same(kept: Artefact, digest: str, *, files: Mapping[str, str]) -> None:
    """Refuse a kept model whose bytes are no longer those that were registered.

    Raises
    ------
    InputError
        Names the first file that differs.
    """
    if kept.digest == digest:
        return
    changed = sorted(
        name for name in kept.files.keys() | files.keys() if kept.files.get(name) != files.get(name)
    )
    raise InputError(
        "{file} of the registered model {model} was altered: nothing that was found or signed is about these "
        "bytes. Register them as a model of their own, or copy the right ones back.",
        file=clean_text(changed[0]) if changed else "",
        model=digest[:12],
    )
