"""DICOM as it is displayed, held against the standard's formulas and against pydicom's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from tests.records.case_builders import dicom, folder, item

from primum.errors import RecordsError
from primum.records.case_files.dicom import read_dicom
from primum.records.case_folder import open_cases

CELL: dict[str, str | int] = {"file": "cases.csv", "row": 3, "column": "file", "input": "a.dcm"}
PIXELS = np.arange(0, 4080, 136, dtype=np.uint16).reshape(5, 6)


def read(content: bytes, path: Path) -> np.ndarray:
    (path / "a.dcm").write_bytes(content)
    return read_dicom(path / "a.dcm", CELL)[1]


def test_without_a_window_all_that_the_bits_hold(tmp_path: Path) -> None:
    shown = read(dicom(PIXELS), tmp_path)
    assert shown.dtype == np.float32 and shown.shape == (1, 5, 6)
    assert np.allclose(shown[0], PIXELS / 4095)
    signed = (PIXELS.astype(np.int16) - 2048).astype(np.int16)
    shown = read(dicom(signed, RescaleSlope="2", RescaleIntercept="-24"), tmp_path)
    assert np.allclose(shown[0], (signed.astype(float) + 2048) / 4095)


def test_dark_is_zero_in_monochrome_one(tmp_path: Path) -> None:
    for window in ({}, {"WindowCenter": 1000, "WindowWidth": 1500}):
        plain = read(dicom(PIXELS, **window), tmp_path)
        inverted = read(dicom(PIXELS, PhotometricInterpretation="MONOCHROME1", **window), tmp_path)
        assert np.allclose(plain + inverted, 1) and plain[0, 0, 0] == 0 and inverted[0, 0, 0] == 1


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("rescaled", [False, True])
def test_windows_agree_with_pydicom(function: str | None, rescaled: bool, tmp_path: Path) -> None:
    tags: dict[str, Any] = {"WindowCenter": [1500, 3], "WindowWidth": [900, 4]}
    tags |= {"VOILUTFunction": function} if function else {}
    tags |= {"RescaleSlope": "1.5", "RescaleIntercept": "-100"} if rescaled else {}
    ours = read(dicom(PIXELS, **tags), tmp_path)[0]
    theirs = pydicom.dcmread(tmp_path / "a.dcm")
    values = apply_windowing(apply_modality_lut(theirs.pixel_array, theirs), theirs)
    low, high = (-100, 4095 * 1.5 - 100) if rescaled else (0, 4095)
    assert np.allclose(ours, (values - low) / (high - low), atol=1e-6)
    assert 0 <= ours.min() < 0.1 and 0.9 < ours.max() <= 1


def test_tables_of_the_view_and_of_the_modality(tmp_path: Path) -> None:
    steps = np.repeat(np.arange(256) * 257, 16).astype("<u2").tobytes()
    table = {"LUTDescriptor": [4096, 0, 16], "LUTData": steps}
    for name in ("VOILUTSequence", "ModalityLUTSequence"):
        shown = read(dicom(PIXELS, **{name: item(**table, ModalityLUTType="US")}), tmp_path)
        assert np.allclose(shown[0], PIXELS // 16 / 255)


def test_frames_are_a_volume_each_with_its_own_rescale(tmp_path: Path) -> None:
    frames = np.stack([PIXELS, PIXELS])
    groups = [
        item(PixelValueTransformationSequence=item(RescaleSlope=slope, RescaleIntercept="0"))[0]
        for slope in ("1", "2")
    ]
    view = item(FrameVOILUTSequence=item(WindowCenter=2048, WindowWidth=4096, VOILUTFunction="LINEAR_EXACT"))
    made = dicom(frames, PerFrameFunctionalGroupsSequence=groups, SharedFunctionalGroupsSequence=view)
    shown = read(made, tmp_path)
    assert shown.shape == (1, 2, 5, 6)
    assert np.allclose(shown[0, 0], PIXELS / 4096) and np.allclose(shown[0, 1], np.minimum(PIXELS / 2048, 1))


SIDEWAYS = [0, 1, 0, 0, 0, -1]


def series(path: Path, **changed: Any) -> Path:
    path.mkdir()
    for number, place in enumerate((30, 10, 20)):
        tags = {
            "SeriesInstanceUID": "1.2",
            "InstanceNumber": number,
            "ImagePositionPatient": [-place, 0, 0],
            "ImageOrientationPatient": SIDEWAYS,
        }
        tags |= {name: value[number] for name, value in changed.items()}
        tags = {name: value for name, value in tags.items() if value is not None}
        (path / f"{number}.dcm").write_bytes(dicom(PIXELS + np.uint16(place), **tags))
    return path


def test_a_series_is_sorted_across_its_plane(tmp_path: Path) -> None:
    kind, volume = read_dicom(series(tmp_path / "s"), CELL)
    assert kind == "volume" and volume.shape == (1, 3, 5, 6)
    assert np.allclose(volume[0, :, 0, 0] * 4095, [10, 20, 30])
    volume = read_dicom(series(tmp_path / "n", ImagePositionPatient=[None] * 3), CELL)[1]
    assert np.allclose(volume[0, :, 0, 0] * 4095, [30, 10, 20])


SERIES: dict[str, tuple[dict[str, Any], str]] = {
    "two at one place": ({"ImagePositionPatient": [[0, 0, 0]] * 3}, "two at one place"),
    "two series": ({"SeriesInstanceUID": ["1.2", "1.2", "1.3"]}, "several series"),
    "no order": ({"ImagePositionPatient": [None] * 3, "InstanceNumber": [None] * 3}, "truncated, broken"),
    "sizes": ({"Rows": [5, 3, 5]}, "several sizes"),
}


@pytest.mark.parametrize("kind", SERIES)
def test_bad_series(kind: str, tmp_path: Path) -> None:
    changed, said = SERIES[kind]
    with pytest.raises(RecordsError, match=said):
        read_dicom(series(tmp_path / "s", **changed), CELL)


def test_empty_and_linked_folders(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(RecordsError, match="is empty, or holds folders or links"):
        read_dicom(tmp_path / "s", CELL)
    (tmp_path / "a").write_bytes(dicom(PIXELS))
    (tmp_path / "s/a.dcm").symlink_to(tmp_path / "a")
    with pytest.raises(RecordsError, match="is empty, or holds folders or links"):
        read_dicom(tmp_path / "s", CELL)


# Files that come with pydicom, and their shapes.
KNOWN = {
    "SC_rgb_small_odd.dcm": (3, 3, 3),
    "SC_rgb_small_odd_big_endian.dcm": (3, 3, 3),
    "SC_ybr_full_422_uncompressed.dcm": (3, 100, 100),
    "SC_rgb_rle.dcm": (3, 100, 100),
    "SC_rgb_rle_2frame.dcm": (3, 2, 100, 100),
    "MR_small.dcm": (1, 64, 64),
    "MR_small_bigendian.dcm": (1, 64, 64),
    "MR_small_RLE.dcm": (1, 64, 64),
    "examples_palette.dcm": (3, 350, 800),
}


@pytest.mark.parametrize("name", KNOWN)
def test_files_of_others(name: str) -> None:
    place = get_testdata_file(name, download=False)
    if place is None:
        pytest.skip("this pydicom comes without it")
    _, shown = read_dicom(Path(str(place)), CELL)
    assert shown.shape == KNOWN[name] and shown.min() >= 0 and shown.max() <= 1


def test_one_picture_in_three_syntaxes() -> None:
    names = ("MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm")
    first, *others = (
        read_dicom(Path(str(get_testdata_file(name, download=False))), CELL)[1] for name in names
    )
    assert all(np.array_equal(first, one) for one in others) and first.std() > 0.1


REFUSED = {
    "MR_small_jpeg_ls_lossless.dcm": "compressed as JPEG-LS Lossless",
    "image_dfl.dcm": "compressed as Deflated Explicit VR Little Endian",
    "rtplan.dcm": "declares more than|truncated",
    "MR_truncated.dcm": "truncated, broken",
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_refused(name: str) -> None:
    with pytest.raises(RecordsError, match=REFUSED[name]) as caught:
        read_dicom(Path(str(get_testdata_file(name, download=False))), CELL)
    assert str(caught.value).startswith("cases.csv, row 3, column file: a.dcm")


BROKEN = {
    "nothing": b"",
    "cut": dicom(PIXELS)[:-9],
    "no window": dicom(PIXELS, WindowCenter=3),
    "another function": dicom(PIXELS, WindowCenter=3, WindowWidth=4, VOILUTFunction="CUBIC"),
    "no photometric": dicom(PIXELS, PhotometricInterpretation="XYZ"),
    "rows": dicom(PIXELS, Rows=9),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files(kind: str, tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"a.dcm is truncated, broken"):
        read(BROKEN[kind], tmp_path)


def test_a_bomb(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="declares more than 16777216 samples"):
        read(dicom(PIXELS, Rows=65535, Columns=65535), tmp_path)


def test_who_and_when_never_leave_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, real = [], pydicom.dcmread

    def watched(*given: Any, **how: Any) -> Any:
        seen.append(real(*given, **how))
        return seen[-1]

    monkeypatch.setattr(pydicom, "dcmread", watched)
    opened = open_cases(folder(tmp_path, "label,file\na,a.dcm\nb,b\n", a__dcm=dicom(PIXELS), b=dicom(PIXELS)))
    assert opened.kind == "image" and sum(map(len, opened.split("train").shards())) == 2
    assert seen and all(
        "PixelData" in one and "PatientID" not in one and "StudyDate" not in one for one in seen
    )


def test_the_digest_covers_each_slice(tmp_path: Path) -> None:
    folder(tmp_path, "label,file\na,s\nb,t\n")
    series(tmp_path / "s"), series(tmp_path / "t")
    before = open_cases(tmp_path).digest()
    (tmp_path / "t/1.dcm").write_bytes(dicom(PIXELS, PatientID="x", InstanceNumber=9))
    assert before != open_cases(tmp_path).digest()
