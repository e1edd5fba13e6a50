"""A43: whatever restart files and checkpoints hold, going on works or is one sentence that names the file, which is left as it was."""

import json
import shutil

import pytest
import torch
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from eqpot.checkpoint import parse_checkpoint
from eqpot.config_file import load_config
from eqpot.errors import EqpotError
from eqpot.md import Settings, Simulation, resume_run, start_run
from eqpot.training import TrainConfig, Trainer
from fuzzing import assert_one_sentence, fuzz, garbled, replaced
from helpers import random_potential
from training_runs import write_config

RESTART, CHECKPOINT = "restart.safetensors", "checkpoint.safetensors"


class Dynamics:
    """A run of two atoms that was stopped at step 2."""

    file = RESTART

    def __init__(self, folder):
        self.folder, self.potential = folder / "run", random_potential([14])
        settings = Settings(ensemble="nvt", method="nose_hoover", steps=4, interval=1, seed=0, watchdog={"min_distance": 0.0})
        run = start_run(Simulation(bulk("Si"), self.potential, settings), self.folder)
        run.run(callbacks=[(2, lambda _: setattr(run, "stop_requested", True))])

    def resume(self):
        resume_run(self.folder, self.potential)


class Training:
    """A run that has ended."""

    file = CHECKPOINT

    def __init__(self, folder):
        values = {"data": {"n_train": 3, "n_valid": 1}, "network": {"n_channels": 2, "radial_width": 2, "cutoff": 2.0, "n_blocks": 1}}
        self.folder = folder / "run"
        self.config = load_config(TrainConfig, write_config(folder, **values), [f"output={self.folder}"])
        self.trainer = Trainer(self.config)
        self.trainer.run()

    def resume(self):
        # What a Trainer does once it has read its data, which takes most of its time.
        self.trainer._restore(self.trainer._find_checkpoint(resume=True))


@pytest.fixture(scope="module", params=[Dynamics, Training])
def started(tmp_path_factory, request):
    torch.set_num_threads(1)
    return request.param(tmp_path_factory.mktemp("started"))


def resume(started, content):
    """Go on from a file with such a content; return whether that was possible. The run's other files are as they were."""
    path = started.folder / started.file
    before = {file.name: file.read_bytes() for file in started.folder.iterdir()}
    path.write_bytes(content)
    try:
        started.resume()
    except EqpotError as error:
        assert_one_sentence(error, started.folder.name)
        assert {file.name: file.read_bytes() for file in started.folder.iterdir()} == {**before, path.name: content}
        return False
    finally:
        shutil.rmtree(started.folder)
        started.folder.mkdir()
        for name, kept in before.items():
            (started.folder / name).write_bytes(kept)
    return True


def whole(started):
    content = (started.folder / started.file).read_bytes()
    return content, *parse_checkpoint(content, started.folder)


def test_the_whole_file_is_one_to_go_on_from(started):
    assert resume(started, whole(started)[0])


@fuzz(40)
@given(data=st.data())
def test_a43_cut_and_garbled_files(started, data):
    content = whole(started)[0]
    changed = garbled(data, content)
    assert resume(started, changed) == (changed == content)


@fuzz(60)
@given(data=st.data())
def test_a43_any_value_anywhere_in_the_state(started, data):
    _, state, tensors = whole(started)
    resume(started, save(tensors, metadata={"state": json.dumps(replaced(data, state))}))


@fuzz(40)
@given(data=st.data())
def test_a43_tensors_of_another_kind(started, data):
    _, state, tensors = whole(started)
    name = data.draw(st.sampled_from(sorted(tensors)))
    kinds = [None, torch.zeros(()), torch.zeros(0), torch.zeros(3, 2), torch.full_like(tensors[name].double(), torch.nan)]
    tensors[name] = data.draw(st.sampled_from(kinds))
    resume(started, save({name: kept for name, kept in tensors.items() if kept is not None}, metadata={"state": json.dumps(state)}))


def test_a_changed_digit_is_noticed(started):
    content, _, tensors = whole(started)
    changed = bytearray(content)
    changed[-1] ^= 1
    assert load(bytes(changed)).keys() == tensors.keys()
    assert not resume(started, bytes(changed))


def test_files_of_before_their_contents_were_hashed_are_read(started):
    _, state, tensors = whole(started)
    assert "sha256" not in state
    assert resume(started, save(tensors, metadata={"state": json.dumps(state)}))


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "1", ""])
def test_a_state_that_is_none(started, text):
    assert not resume(started, save(whole(started)[2], metadata={"state": text}))


@pytest.mark.parametrize("text", ["", "step,seconds\nx,y\n", "step,seconds\n1\n", "\x00\n\x00\n"])
def test_timings_that_are_none(tmp_path, text):
    training = Training(tmp_path)
    (training.folder / "timings.csv").write_text(text)
    with pytest.raises(EqpotError, match="timings.csv is no table"):
        training.resume()
    assert (training.folder / "timings.csv").read_text() == text
