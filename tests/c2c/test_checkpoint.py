"""The published layout, read and written; what a broken or hostile folder leads to."""

import io
import json
import pickle
import random
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import PROJECTOR, randomize
from torch import Tensor

from c2c.cache import Geometry
from c2c.checkpoint import MAP_FILE, load_fuser, save_fuser
from c2c.errors import C2CError
from c2c.fuser import Fuser, LayerSource, new_fuser
from c2c.projector import ProjectorSize

SHARER, RECEIVER = Geometry(3, 2, 5), Geometry(4, 3, 4)


def random_fuser(seed: int = 0) -> Fuser:
    fuser = new_fuser(SHARER, RECEIVER, PROJECTOR)
    randomize(fuser, seed)
    return fuser


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole fuser that the tests below break."""
    folder = tmp_path / "fuser" / "final"
    save_fuser(random_fuser(), folder)
    return folder


def load(folder: Path) -> Fuser:
    return load_fuser(folder, SHARER, RECEIVER)


def refused(folder: Path, words: str) -> None:
    with pytest.raises(C2CError, match=words) as caught:
        load(folder)
    assert type(caught.value) is C2CError
    assert "\n" not in str(caught.value)


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content)))


def rewrite_arguments(folder: Path, index: int = 1, **arguments: Any) -> None:
    def change(content: Any) -> Any:
        content["init_args"].update(arguments)
        return content

    rewrite(folder / f"projector_{index}.json", change)


def rewrite_state(folder: Path, index: int, change: Callable[[dict[str, Tensor]], None]) -> None:
    path = folder / f"projector_{index}.pt"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_was_saved_comes_back_bit_equal(tmp_path: Path, dtype: torch.dtype) -> None:
    fuser = random_fuser().to(dtype)
    folder = tmp_path / "run" / "final"
    save_fuser(fuser, folder, recipe={"mapping": "last_aligned"})
    loaded = load_fuser(folder, SHARER, RECEIVER, dtype)
    assert loaded.layer_map == fuser.layer_map
    state, saved = loaded.state_dict(), fuser.state_dict()
    assert list(state) == list(saved)
    for name in saved:
        assert state[name].dtype == dtype
        assert torch.equal(state[name], saved[name]), name
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {"mapping": "last_aligned"}
    assert loaded.projector(0).size == PROJECTOR


def test_a_map_of_ones_own_comes_back(tmp_path: Path) -> None:
    fuser = random_fuser()
    fuser.layer_map = {1: LayerSource(2, 3), 3: LayerSource(0, 3)}
    save_fuser(fuser, tmp_path / "final")
    assert load(tmp_path / "final").layer_map == {1: LayerSource(2, 3), 3: LayerSource(0, 3)}


def test_saving_replaces_the_whole_folder(folder: Path) -> None:
    (folder / "projector_99.pt").write_bytes(b"left over")
    save_fuser(random_fuser(seed=7), folder)
    wanted, found = random_fuser(seed=7).state_dict(), load(folder).state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert [path.name for path in folder.parent.iterdir()] == ["final"]


def test_a_view_is_saved_without_the_storage_behind_it(tmp_path: Path) -> None:
    fuser = random_fuser()
    save_fuser(fuser, tmp_path / "plain")
    projector = fuser.projector(0)
    weight = projector.get_parameter("key_in.weight")
    weight.data = torch.cat([weight.data] * 100)[: len(weight)]
    save_fuser(fuser, tmp_path / "view")
    sizes = [(tmp_path / name / "projector_0.pt").stat().st_size for name in ("plain", "view")]
    assert sizes[0] == sizes[1]


def test_the_published_layout_is_read(shared_dir: Path) -> None:
    folder = shared_dir / "compat" / "fuser" / "final"
    fuser = load_fuser(folder, Geometry(4, 2, 12), Geometry(5, 2, 32))
    assert [source.sharer_layer for source in fuser.layer_map.values()] == [0, 0, 1, 2, 3]
    gates = [
        (fuser.projector(t).is_open("key"), fuser.projector(t).is_open("value")) for t in range(5)
    ]
    assert gates == [(True, True), (False, True), (True, True), (False, False), (True, True)]
    raw = torch.load(folder / "projector_2.pt", weights_only=True)
    loaded = fuser.projector(2).state_dict()
    assert raw.keys() == loaded.keys()
    assert all(torch.equal(raw[name], loaded[name]) for name in raw)


def test_what_we_write_is_what_was_published(shared_dir: Path, tmp_path: Path) -> None:
    published = shared_dir / "compat" / "fuser" / "final"
    fuser = load_fuser(published, Geometry(4, 2, 12), Geometry(5, 2, 32))
    save_fuser(fuser, tmp_path / "final")
    names = {path.name for path in published.iterdir()}
    assert {path.name for path in (tmp_path / "final").iterdir()} == names
    assert json.loads((tmp_path / "final" / MAP_FILE).read_text()) == json.loads(
        (published / MAP_FILE).read_text()
    )
    for index in range(5):
        ours, theirs = (
            json.loads((where / f"projector_{index}.json").read_text())
            for where in (tmp_path / "final", published)
        )
        assert ours["class"] == theirs["class"]
        for name in ours["init_args"].keys() & theirs["init_args"].keys():
            assert ours["init_args"][name] == theirs["init_args"][name], name
        states = [
            torch.load(where / f"projector_{index}.pt", weights_only=True)
            for where in (tmp_path / "final", published)
        ]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_absent_argument_means_its_default(tmp_path: Path) -> None:
    sharer, receiver = Geometry(1, 1, 4), Geometry(1, 1, 4)
    fuser = new_fuser(sharer, receiver, PROJECTOR)
    save_fuser(fuser, tmp_path / "final")

    def only_needed(content: Any) -> Any:
        arguments = content["init_args"]
        kept = ("source_dim", "target_dim", "hidden_dim", "intermediate_dim", "num_layers")
        return {"class": content["class"], "init_args": {name: arguments[name] for name in kept}}

    rewrite(tmp_path / "final" / "projector_0.json", only_needed)
    loaded = load_fuser(tmp_path / "final", sharer, receiver)
    assert loaded.projector(0).size.dropout == 0.1
    rewrite(
        tmp_path / "final" / "projector_0.json",
        lambda c: {**c, "init_args": {"source_dim": 4, "target_dim": 4}},
    )
    with pytest.raises(C2CError, match="widths of 1024 and 1024"):
        load_fuser(tmp_path / "final", sharer, receiver)


@pytest.mark.parametrize("name", [MAP_FILE, "projector_2.json", "projector_0.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, f"{name} is missing: the folder does not hold a whole fuser")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "projector_config.json is missing")


@pytest.mark.parametrize("gone", [(0,), (1,), (0, 1, 2, 3)])
def test_projectors_are_numbered_without_a_gap(folder: Path, gone: tuple[int, ...]) -> None:
    for index in gone:
        (folder / f"projector_{index}.pt").unlink()
    left = sorted(set(range(4)) - set(gone))
    refused(folder, re.escape(f"not numbered 0, 1, 2, ...: {left}"))


def test_a_missing_last_projector_leaves_the_map_unserved(folder: Path) -> None:
    (folder / "projector_3.pt").unlink()
    refused(folder, "receiver layer 3 takes projector 3, but there are 3 projectors")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_cut_anywhere_is_refused(folder: Path, legacy: bool) -> None:
    path = folder / "projector_0.pt"
    if legacy:
        state = torch.load(path, weights_only=True)
        torch.save(state, path, _use_new_zipfile_serialization=False)
        load(folder)
    whole = path.read_bytes()
    for length in [0, 1, 2, *range(7, len(whole), len(whole) // 60), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refused(folder, "projector_0.pt is not a state dictionary of plain tensors")


@pytest.mark.filterwarnings("ignore")  # torch's, of what it finds in there
def test_an_altered_state_is_refused_or_read_and_nothing_else(tmp_path: Path) -> None:
    one = Geometry(1, 1, 2)
    fuser = new_fuser(one, one, ProjectorSize(2, 2, 3))
    randomize(fuser, seed=0)
    save_fuser(fuser, tmp_path)
    path = tmp_path / "projector_0.pt"
    state = torch.load(path, weights_only=True)
    legacy = io.BytesIO()
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    rng = random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    for whole in (path.read_bytes(), legacy.getvalue()):
        for _ in range(100):
            data = bytearray(whole)
            # Names and sizes stand at the start of a legacy file and at the end of a zip.
            reach = rng.choice([64, 600, len(data)])
            for _ in range(rng.choice([1, 1, 3])):
                place = rng.choice([rng.randrange(reach), -1 - rng.randrange(reach)])
                data[place] = rng.randrange(256)
            path.write_bytes(bytes(data))
            try:
                load_fuser(tmp_path, one, one)
                outcomes["read"] += 1
            except C2CError:
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 10


class Marker:
    """Pickled, it makes a file when it is unpickled carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore")  # torch's, of the pickle's protocol
def test_code_in_a_pickle_is_not_run(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(Marker(marker)))
    assert marker.exists()  # the trap works
    marker.unlink()
    path = folder / "projector_1.pt"
    for content in (Marker(marker), {"key_in.weight": Marker(marker)}):
        for new_format in (True, False):
            torch.save(content, path, _use_new_zipfile_serialization=new_format)
            refused(folder, "projector_1.pt is not a state dictionary.*nothing in it was run")
        path.write_bytes(pickle.dumps(content))
        refused(folder, "nothing in it was run")
    assert not marker.exists()


def test_what_is_no_state_dictionary_of_numbers_is_refused(folder: Path) -> None:
    path = folder / "projector_0.pt"
    for content, words in (
        ([torch.zeros(2)], "holds a list"),
        (torch.zeros(2), "holds a Tensor"),
        ({"a": 3}, "entry 'a' is not a named tensor"),
        ({3: torch.zeros(2)}, "entry 3 is not a named tensor"),
        ({"a": torch.zeros(2, dtype=torch.int64)}, "a holds numbers that are not finite floating"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "a holds numbers that are not finite"),
        ({"a": torch.zeros(2, dtype=torch.float8_e4m3fn)}, "a holds numbers that are not finite"),
        ({"a": torch.zeros(2, device="meta")}, "a is not a plain tensor"),
        ({"a": torch.eye(3).to_sparse()}, "a is not a plain tensor"),
        ({"a": torch.zeros(1).expand(10**6, 10**6)}, "a is larger than the file"),
    ):
        torch.save(content, path)
        refused(folder, f"projector_0.pt.*{words}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["value_in.weight", "key_gate_logit"])
def test_weights_that_are_no_numbers_are_refused(folder: Path, name: str, value: float) -> None:
    rewrite_state(folder, 2, lambda state: state[name].view(-1)[-1:].fill_(value))
    refused(folder, f"projector_2.pt: {name} holds numbers that are not finite")


def test_another_projector_class_is_refused(folder: Path) -> None:
    rewrite(folder / "projector_1.json", lambda content: {**content, "class": "os.system"})
    refused(folder, "projector class 'os.system' is not supported, only C2CProjector")


def test_a_wrong_shape_names_the_layer_and_both_shapes(folder: Path) -> None:
    def shorten(state: dict[str, Tensor]) -> None:
        state["key_proj_out.weight"] = state["key_proj_out.weight"][:-1].clone()

    rewrite_state(folder, 2, shorten)
    refused(
        folder,
        r"at receiver layer 2, key_proj_out.weight should be \(12, 24\), the file holds \(11, 24\)",
    )


def test_missing_and_unknown_tensors_name_the_layer(folder: Path) -> None:
    rewrite_state(folder, 3, lambda state: state.pop("value_in.bias"))
    refused(folder, r"at receiver layer 3, value_in.bias should be \(24,\), the file holds nothing")
    save_fuser(random_fuser(), folder)
    rewrite_state(folder, 0, lambda state: state.update(more=torch.zeros(2)))
    refused(folder, r"at receiver layer 0, more should be nothing, the file holds \(2,\)")


def test_the_layer_named_is_the_one_that_the_map_serves(folder: Path) -> None:
    rewrite(folder / MAP_FILE, lambda _: {"0": {"1": {"2": [[1, 0]], "3": [[2, 1]]}}})
    rewrite_state(folder, 0, lambda state: state.pop("value_in.bias"))
    refused(folder, "at receiver layer 2, value_in.bias")


@pytest.mark.parametrize(
    ("sharer", "receiver", "words"),
    [
        (Geometry(3, 4, 5), RECEIVER, "a sharer cache of 2 heads x 5, the sharer has 4 heads x 5"),
        (Geometry(3, 2, 6), RECEIVER, "a sharer cache of 2 heads x 5, the sharer has 2 heads x 6"),
        # As many numbers a token, but not the same heads.
        (Geometry(3, 5, 2), RECEIVER, "a sharer cache of 2 heads x 5, the sharer has 5 heads x 2"),
        (
            SHARER,
            Geometry(4, 4, 3),
            "a receiver cache of 3 heads x 4, the receiver has 4 heads x 3",
        ),
        (Geometry(2, 2, 5), RECEIVER, "layer 3 takes sharer layer 2, but the sharer has 2 layers"),
        (SHARER, Geometry(3, 3, 4), "maps receiver layer 3, but the receiver has 3 layers"),
    ],
)
def test_a_fuser_of_another_pair_is_refused(
    folder: Path, sharer: Geometry, receiver: Geometry, words: str
) -> None:
    with pytest.raises(C2CError, match=words) as caught:
        load_fuser(folder, sharer, receiver)
    assert "layer" in str(caught.value)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"0": [[3, 0]]}, "receiver layer 0 takes sharer layer 3, but the sharer has 3 layers"),
        ({"0": [[-1, 0]]}, "receiver layer 0 takes sharer layer -1"),
        ({"4": [[0, 0]]}, "maps receiver layer 4, but the receiver has 4 layers"),
        ({"-1": [[0, 0]]}, "maps receiver layer -1"),
        ({"0": [[0, 4]]}, "receiver layer 0 takes projector 4, but there are 4 projectors"),
        ({"0": [[0, -1]]}, "receiver layer 0 takes projector -1"),
        ({"0": [[10**30, 0]]}, "takes sharer layer 1000"),
        ({"0": []}, "is not a layer map"),
        ({"0": [[0]]}, "is not a layer map"),
        ({"0": [[0.0, 0]]}, "is not a layer map"),
        ({"0": [[True, 0]]}, "is not a layer map"),
        ({"0": [["0", 0]]}, "is not a layer map"),
        ({"first": [[0, 0]]}, "is not a layer map"),
        ([[0, 0]], "is not a layer map"),
        (None, "is not a layer map"),
    ],
)
def test_a_map_out_of_range_or_shape_is_refused(folder: Path, layers: Any, words: str) -> None:
    (folder / MAP_FILE).write_text(json.dumps({"0": {"1": layers}}))
    refused(folder, words)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"0": {}}', '"\\ud800"', "[" * 100_000, "9" * 10_000, "\x00"]
)
def test_a_map_that_is_no_map_is_refused(folder: Path, text: str) -> None:
    (folder / MAP_FILE).write_text(text)
    refused(folder, "cannot be read as JSON|is not a layer map")


@pytest.mark.parametrize("text", ["[]", "null", '{"class": "C2CProjector"}', '{"init_args": {}}'])
def test_a_description_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "projector_2.json").write_text(text)
    refused(folder, "projector_2.json does not describe a projector")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_layers": 2}, "num_layers must be at least 3"),
        ({"num_layers": 10**9}, "num_layers is 1000000000, the state has"),
        ({"num_layers": 10**30}, "num_layers is 1000"),
        ({"num_layers": -5}, "num_layers must be at least 3"),
        ({"num_layers": 5}, "key_proj_mlp2.blocks.2.norm.weight should be"),
        ({"hidden_dim": 0}, "widths at least 1"),
        (
            {"hidden_dim": 25},
            r"at receiver layer 1, key_in.bias should be \(25,\), the file holds \(24,\)",
        ),
        ({"hidden_dim": 10**6}, "at receiver layer 1.* widths of 1000000 and 40"),
        ({"hidden_dim": 10**12}, "widths of 1000000000000 and 40"),
        ({"hidden_dim": 10**30}, "at receiver layer 1.* widths of 1000"),
        ({"intermediate_dim": 2**63}, "widths of 24 and 9223372036854775808"),
        ({"intermediate_dim": -1}, "widths at least 1"),
        ({"hidden_dim": 24.0}, "projector_1.json does not describe a projector: 24.0"),
        ({"hidden_dim": "24"}, "does not describe a projector"),
        ({"hidden_dim": None}, "does not describe a projector"),
        ({"dropout": "much"}, "does not describe a projector"),
        ({"dropout": None}, "does not describe a projector"),
        ({"source_dim": 6}, "expects a sharer cache of 2 heads x 6"),
        ({"target_num_heads": 10**12}, "at receiver layer 1 it expects a receiver cache"),
    ],
)
def test_absurd_arguments_are_refused_without_building_anything(
    folder: Path, arguments: dict[str, Any], words: str
) -> None:
    rewrite_arguments(folder, **arguments)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(folder, words)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_an_empty_tensor_of_absurd_sides_is_refused(folder: Path) -> None:
    rewrite_arguments(folder, hidden_dim=10**12)
    rewrite_state(folder, 1, lambda state: state.update({"key_in.weight": torch.zeros(10**12, 0)}))
    refused(folder, "at receiver layer 1.* widths of 1000000000000")
