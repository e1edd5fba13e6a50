"""A43: whatever a file holds, reading it gives frames or one sentence that names it."""

import gzip
import io
import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqpot.data import LabelKeys, read_frames
from eqpot.data.doctor import examine
from eqpot.errors import DataError, EqpotError
from fuzzing import assert_one_sentence, fuzz, garbled
from helpers import DATA, ETHANOL, SILICON
from vasp_files import outcar, vasprun


def small_npz():
    with np.load(ETHANOL) as arrays:
        content = io.BytesIO()
        np.savez(content, **{name: arrays[name][:2] if arrays[name].ndim and len(arrays[name]) == 120 else arrays[name] for name in arrays})
    return content.getvalue()


FILES = {
    "a.extxyz": SILICON.read_bytes()[:6000],
    "a.extxyz.gz": gzip.compress(SILICON.read_bytes()[:6000]),
    "a.npz": small_npz(),
    "a.json": (DATA / "lithium.json").read_bytes(),
    "vasprun.xml": vasprun().encode(),
    "OUTCAR": outcar().encode(),
}
FUZZ = fuzz(60)


def read(folder, name, content):
    (folder / name).write_bytes(content)
    with warnings.catch_warnings():
        # ASE warns of what it finds odd.
        warnings.simplefilter("ignore")
        try:
            frames, told = read_frames(folder / name), None
        except EqpotError as error:
            frames, told = [], error
    assert all(len(frame.atoms) for frame in frames)
    if told is not None:
        assert isinstance(told, DataError)
        assert_one_sentence(told, name)


@pytest.mark.parametrize("name", FILES)
@FUZZ
@given(data=st.data())
def test_a43_cut_and_garbled_files_are_one_sentence(tmp_path, name, data):
    read(tmp_path, name, garbled(data, FILES[name]))


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@FUZZ
@given(key=st.sampled_from(["structure", "outputs", "energy", "forces", "@class"]), value=JSON)
def test_a43_json_of_the_wrong_kind_is_one_sentence(tmp_path, key, value):
    entries = json.loads(FILES["a.json"])
    holder = entries[0]["outputs"] if key in ("energy", "forces") else entries[0]["structure"] if key == "@class" else entries[0]
    holder[key] = value
    read(tmp_path, "a.json", json.dumps(entries).encode())


@FUZZ
@given(line=st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=60), first=st.text("0123456789 .-e", max_size=6))
def test_a43_any_text_as_extxyz_is_one_sentence(tmp_path, line, first):
    read(tmp_path, "a.extxyz", f"{first}\n{line}\nH 0 0 0\n".encode())


@pytest.mark.parametrize("name", FILES)
def test_whole_files_are_read(tmp_path, name):
    content = FILES[name] if "extxyz" not in name else gzip.compress(SILICON.read_bytes()) if name.endswith("gz") else SILICON.read_bytes()
    (tmp_path / name).write_bytes(content)
    assert len(read_frames(tmp_path / name, LabelKeys())) == (12 if "extxyz" in name else 2)


def test_the_doctor_survives_what_reading_refuses(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    _, findings = examine([tmp_path / name for name in FILES])
    assert findings[0].level == "error"
