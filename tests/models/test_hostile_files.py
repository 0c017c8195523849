"""Files that were made to harm: none is executed, leaks another, hangs or fills the machine."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import threading
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from craters import read_patches
from craters.cli.main import app
from craters.core import files
from craters.errors import CratersError, DataError, ModelError
from craters.models import (
    Classifier,
    ModelDescription,
    import_model,
    read_weights,
    write_keras_h5,
)
from craters.models import folder as model_folder
from craters.models.keras import reader
from craters.models.keras.reader import read_keras
from tests.models.tools import SIDE, spread, write_original

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")
SECRET = "the secret of another file"


class Evil:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that is there only if something was executed."""
    path = tmp_path / "executed"
    assert pickle.dumps(Evil(path)).startswith(b"\x80")
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder."""
    return write_original(tmp_path_factory.mktemp("good") / "model")


@pytest.fixture
def model(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "model")


@pytest.fixture(scope="module")
def keras_h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "good.h5"
    write_keras_h5(path, spread())
    return path


def fix_sums(folder: Path) -> None:
    """Write the sums anew, as one who forges a folder would."""
    lines = [f"{files.sha256_of(folder / name)}  {name}\n" for name in model_folder.PARTS]
    (folder / model_folder.SUMS).write_text("".join(lines))


def refused(call: Callable[[], object], kind: type[CratersError] = ModelError) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.exit_code == (5 if kind is ModelError else 3)
    assert SECRET not in str(caught.value)
    return str(caught.value)


# --- arrays ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_of_objects_are_not_unpickled(suffix: str, mark: Path, tmp_path: Path) -> None:
    objects = np.empty(3, object)
    objects[:] = [Evil(mark)] * 3
    path = tmp_path / f"x{suffix}"
    (np.save if suffix == ".npy" else np.savez)(path, objects)
    assert "objects are never unpickled" in refused(lambda: read_patches(path), DataError)
    assert not mark.exists()


def test_a_pickle_named_like_an_array_is_not_opened(mark: Path, tmp_path: Path) -> None:
    for name in ("x.npy", "x.npz"):
        (tmp_path / name).write_bytes(pickle.dumps(Evil(mark)))
        message = refused(lambda name=name: read_patches(tmp_path / name), DataError)
        assert "is not a NumPy file" in message
    assert not mark.exists()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 48, 48)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 48, 48)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
        "__import__('os').system('touch executed')",
        "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (3,)}",
        "(" * 5000,
        "[" * 90 + "]" * 90,
        "-" * 9000 + "1",
    ],
    ids=range(8),
)
def test_lying_headers_of_arrays_are_refused(
    header: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = header.encode().ljust(118) + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"\0" * 48 * 48
    (tmp_path / "x.npy").write_bytes(content)
    refused(lambda: read_patches(tmp_path / "x.npy"), DataError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy"]


# --- pickles and other models ------------------------------------------------------------------


def test_a_pickled_torch_model_is_not_opened(mark: Path, tmp_path: Path, model: Path) -> None:
    import torch

    torch.save(Evil(mark), tmp_path / "zip.pt")
    torch.save(Evil(mark), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.h5").write_bytes(pickle.dumps(Evil(mark)))
    for name in ("zip.pt", "old.pt", "plain.h5"):
        message = refused(lambda name=name: import_model(tmp_path / name, tmp_path / "OUT"))
        assert name in message
    assert "never opened" in message
    for name in ("model.pt", "model.onnx", "model.safetensors", "model.json"):
        folder = shutil.copytree(model, tmp_path / f"with {name}")
        (folder / name).write_bytes((tmp_path / "old.pt").read_bytes())
        fix_sums(folder)
        refused(lambda folder=folder: Classifier.load(folder))
    assert not mark.exists()
    assert not (tmp_path / "OUT").exists()


# --- Keras files -------------------------------------------------------------------------------


def lambda_config(mark: Path) -> dict:
    """Describe a Sequential model whose Lambda makes a file, as Keras 2 and 3 marshal one."""
    import base64
    import marshal

    code = compile(f"lambda x: open({str(mark)!r}, 'w')", "evil", "eval")
    text = base64.b64encode(marshal.dumps(code)).decode()
    evil = {
        "class_name": "__lambda__",
        "config": {"code": text, "defaults": None, "closure": None},
    }
    start = {"batch_shape": [None, SIDE, SIDE, 1], "name": "start", "dtype": "float32"}
    chain = [
        {"class_name": "InputLayer", "config": start},
        {"class_name": "Lambda", "config": {"name": "evil", "function": evil}},
    ]
    return {"class_name": "Sequential", "config": {"name": "model", "layers": chain}}


def write_zip(path: Path, parts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def no_weights() -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as store:
        store.create_group("layers")
    return content.getvalue()


def keras_parts(config: dict) -> dict[str, bytes]:
    return {
        "metadata.json": b'{"keras_version": "3.9.0"}',
        "config.json": json.dumps(config).encode(),
        "model.weights.h5": no_weights(),
    }


def test_a_lambda_is_refused_by_name_and_not_executed(mark: Path, tmp_path: Path) -> None:
    config = lambda_config(mark)
    with h5py.File(tmp_path / "m.h5", "w") as store:
        store.attrs["model_config"] = json.dumps(config)
        store.create_group("model_weights")
    write_zip(tmp_path / "m.keras", keras_parts(config))
    for name in ("m.h5", "m.keras"):
        message = refused(lambda name=name: import_model(tmp_path / name, tmp_path / "OUT"))
        assert "'evil' (Lambda) holds code and is refused" in message
    assert not mark.exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"module": "builtins", "class_name": "eval", "config": {"name": "x"}},
        {"module": "keras.src.utils.python_utils", "class_name": "func_load",
         "config": {"name": "x"}},
        {"module": "subprocess", "class_name": "Dense", "config": {"name": "x"}},
        {"class_name": "Dense", "registered_name": "pkg>Dense", "config": {"name": "x"}},
        {"class_name": "TFSMLayer", "config": {"name": "x", "filepath": "/etc"}},
        {"class_name": ["Dense"], "config": {"name": "x"}},
        {"class_name": "Dense", "config": {"name": "x", "units": 1, "activation": {
            "class_name": "function", "module": "os", "config": "system"}}},
    ],
    ids=range(7),
)  # fmt: skip
def test_classes_and_functions_of_their_own_are_refused(entry: dict, tmp_path: Path) -> None:
    config = lambda_config(tmp_path / "x")
    config["config"]["layers"][1] = entry
    path = write_zip(tmp_path / "m.keras", keras_parts(config))
    message = refused(lambda: read_keras(path))
    assert any(
        words in message for words in ("is refused", "holds code of its own", "its class ['Dense']")
    )


@pytest.mark.parametrize(
    "name", ["../outside", "/tmp/outside", "a/../../outside", "..\\outside", "assets/../../x"]
)
def test_a_zip_that_would_write_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    parts = keras_parts(lambda_config(tmp_path / "x")) | {name: b"outside"}
    path = write_zip(inner / "m.keras", parts)
    assert "would be put elsewhere" in refused(lambda: import_model(path, inner / "OUT"))
    assert [each.name for each in tmp_path.iterdir()] == ["inner"]
    assert [each.name for each in inner.iterdir()] == ["m.keras"]


def test_foreign_doubled_and_encrypted_parts_are_refused(tmp_path: Path) -> None:
    parts = keras_parts(lambda_config(tmp_path / "x"))
    path = write_zip(tmp_path / "a.keras", parts | {"evil.py": b"x"})
    assert "'evil.py', which is not of a plain model" in refused(lambda: read_keras(path))
    path = tmp_path / "b.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", parts["config.json"])
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("config.json", parts["config.json"])
    assert "'config.json' twice" in refused(lambda: read_keras(path))
    content = bytearray(write_zip(tmp_path / "c.keras", parts).read_bytes())
    for place in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[place] |= 1  # "encrypted"
    (tmp_path / "c.keras").write_bytes(content)
    assert "is damaged" in refused(lambda: read_keras(tmp_path / "c.keras"))


def bomb(path: Path, name: str, size: int, claimed: int | None = None) -> Path:
    """Write a .keras file, one part of which unpacks to `size` bytes of zeros; it may lie of it."""
    parts = keras_parts(lambda_config(path))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, content in parts.items():
            if each != name:
                archive.writestr(each, content)
                continue
            with archive.open(each, "w", force_zip64=True) as stream:
                for _ in range(size >> 20):
                    stream.write(bytes(1 << 20))
    if (
        claimed is not None
    ):  # in the archive's list, whose entries give this size 22 bytes before a name
        content = bytearray(path.read_bytes())
        place = content.rindex(name.encode()) - 22
        assert content[place : place + 4] == struct.pack("<L", size)
        content[place : place + 4] = struct.pack("<L", claimed)
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "size", "claimed"),
    [
        ("config.json", 16 << 20, None),
        ("metadata.json", 8 << 20, None),
        ("config.json", 16 << 20, 100),
        ("model.weights.h5", 16 << 20, None),
    ],
)
def test_a_bomb_is_not_unpacked(
    name: str, size: int, claimed: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reader._LARGEST["model.weights.h5"] == 256 << 20
    monkeypatch.setitem(reader._LARGEST, "model.weights.h5", 8 << 20)  # for a quick test
    path = bomb(tmp_path / "bomb.keras", name, size, claimed)
    assert path.stat().st_size < size / 300
    tracemalloc.start()
    message = refused(lambda: read_keras(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ("is damaged" if claimed else "when unpacked") in message
    assert peak < 2 << 20


def change_h5(source: Path, target: Path, change: Callable[[object], object]) -> Path:
    shutil.copy(source, target)
    with h5py.File(target, "r+") as store:
        change(store)
    return target


KERNEL = "model_weights/conv2d/conv2d/kernel"


def swap(store, item: object) -> None:
    del store[KERNEL]
    store[KERNEL] = item


def to_other_file(store) -> None:
    swap(store, h5py.ExternalLink("secret.h5", "/secret"))


def to_soft_link(store) -> None:
    store["elsewhere"] = np.zeros((3, 3, 1, 16), np.float32)
    swap(store, h5py.SoftLink("/elsewhere"))


def to_outside_bytes(store) -> None:
    del store[KERNEL]
    store.create_dataset(KERNEL, (3, 3, 1, 16), "f4", external=[("secret.bin", 0, 576)])


def to_virtual(store) -> None:
    layout = h5py.VirtualLayout((3, 3, 1, 16), "f4")
    layout[...] = h5py.VirtualSource("secret.h5", "secret", (3, 3, 1, 16))
    del store[KERNEL]
    store.create_virtual_dataset(KERNEL, layout)


def to_huge(store) -> None:
    del store[KERNEL]
    store.create_dataset(KERNEL, (1 << 20, 1 << 10, 1, 16), "f4", chunks=(64, 64, 1, 16),
                         compression="gzip")  # fmt: skip


def to_objects(store) -> None:
    del store[KERNEL]
    store.create_dataset(KERNEL, (3,), h5py.string_dtype())


def to_nan(store) -> None:
    store[KERNEL][0, 0, 0, 0] = np.nan


def to_circle(store) -> None:
    del store["model_weights/conv2d/conv2d"]
    store["model_weights/conv2d/conv2d"] = store["model_weights"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (to_other_file, "is a link, expected numbers in the file itself"),
        (to_soft_link, "is a link, expected numbers in the file itself"),
        (to_outside_bytes, "keeps the numbers of .* in another file"),
        (to_virtual, "keeps the numbers of .* in another file"),
        (to_huge, "more than 256 MiB of weights"),
        (to_objects, "expected plain floats"),
        (to_nan, "are not all finite"),
        (to_circle, "has no numbers at"),
    ],
)
def test_weights_that_reach_out_or_lie_are_refused(
    change, message: str, keras_h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = np.frombuffer(SECRET.encode().ljust(576), np.float32).reshape(3, 3, 1, 16)
    (tmp_path / "secret.bin").write_bytes(secret.tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as store:
        store["secret"] = secret
    path = change_h5(keras_h5, tmp_path / "m.h5", change)
    assert re.search(message, refused(lambda: import_model(path, tmp_path / "OUT")))
    assert not (tmp_path / "OUT").exists()


def test_a_huge_array_in_place_of_a_group_is_not_counted(tmp_path: Path) -> None:
    config = lambda_config(tmp_path / "x")
    config["config"]["layers"][1] = {
        "class_name": "Dense", "config": {"name": "x", "units": 1, "activation": "sigmoid"}
    }  # fmt: skip
    content = io.BytesIO()
    with h5py.File(content, "w") as store:
        store.create_dataset("layers/dense/vars", (1 << 50,), "f4", chunks=(1 << 10,))
    parts = keras_parts(config) | {"model.weights.h5": content.getvalue()}
    path = write_zip(tmp_path / "m.keras", parts)
    assert refused(lambda: import_model(path, tmp_path / "OUT"))
    assert not (tmp_path / "OUT").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_truncated_keras_files_are_refused(share: float, keras_h5: Path, tmp_path: Path) -> None:
    whole = {"m.h5": keras_h5.read_bytes()}
    whole["m.keras"] = write_zip(
        tmp_path / "w.keras", keras_parts(lambda_config(tmp_path / "x"))
    ).read_bytes()
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        assert name in refused(lambda name=name: read_keras(tmp_path / name))


def test_flipped_bytes_never_upset_the_reader(keras_h5: Path, tmp_path: Path) -> None:
    content = keras_h5.read_bytes()
    random = np.random.default_rng(0)
    claimed = []
    for number in range(60):
        changed = bytearray(content)
        for place in random.integers(0, len(content), 1 + number // 2):
            changed[place] = int(random.integers(256))
        (tmp_path / "m.h5").write_bytes(changed)
        with contextlib.suppress(ModelError):
            claimed.append(read_keras(tmp_path / "m.h5"))
    assert 0 < len(claimed) < 60  # some bytes are weights or unused, others are not


@pytest.mark.parametrize("text", ["[" * 200_000, "null", "{", '{"config": 3}', '"x"'])
def test_odd_json_in_a_keras_file_is_refused(text: str, tmp_path: Path) -> None:
    parts = keras_parts({}) | {"config.json": text.encode()}
    path = write_zip(tmp_path / "m.keras", parts)
    assert "m.keras" in refused(lambda: read_keras(path))


# --- model folders -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<Q", 10 << 30) + b"{}",
        struct.pack("<Q", 1 << 63) + b"{}",
        struct.pack("<Q", 100) + b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":'
        b"[0,4398046511104]}}".ljust(100),
        struct.pack("<Q", 62) + b'{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[-16,0]}}    ',
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":3}'
        + b"\0" * 4,
    ],
    ids=range(5),
)  # fmt: skip
def test_weights_with_a_lying_header_are_refused(header: bytes, model: Path) -> None:
    (model / "model.safetensors").write_bytes(header)
    fix_sums(model)
    assert "is no valid safetensors file" in refused(lambda: read_weights(model))
    assert "is no valid safetensors file" in refused(lambda: Classifier.load(model))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.99])
def test_a_truncated_graph_is_refused(share: float, model: Path) -> None:
    content = (model / "model.onnx").read_bytes()
    (model / "model.onnx").write_bytes(content[: int(share * len(content))])
    fix_sums(model)
    assert "model.onnx" in refused(lambda: Classifier.load(model))


@pytest.mark.parametrize("where", ["../secret.bin", "/etc/hostname", "secret.bin"])
def test_a_graph_whose_numbers_lie_outside_is_refused(
    where: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    (model.parent / "secret.bin").write_text(SECRET)
    proto = onnx.load_from_string((model / "model.onnx").read_bytes())
    tensor = proto.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=where)
    tensor.ClearField("raw_data")
    (model / "model.onnx").write_bytes(proto.SerializeToString())
    fix_sums(model)
    assert "keeps numbers outside the file" in refused(lambda: Classifier.load(model))


@pytest.mark.parametrize("name", [*model_folder.PARTS, model_folder.SUMS])
def test_links_are_refused_wherever_they_lead(name: str, model: Path, tmp_path: Path) -> None:
    content = (model / name).read_bytes()
    (tmp_path / "same").write_bytes(content)
    for target in (tmp_path / "same", Path("/etc/hostname"), Path("/dev/zero"), model / name):
        (model / name).unlink(missing_ok=True)
        (model / name).symlink_to(target)
        assert "is a link" in refused(lambda: Classifier.load(model))


def test_a_file_that_becomes_a_link_or_a_pipe_while_it_is_read_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names are checked first; what is opened afterwards must still be a plain file."""
    (tmp_path / "same").write_bytes((model / "model.onnx").read_bytes())
    check = model_folder._check_names
    for change in (lambda path: path.symlink_to(tmp_path / "same"), os.mkfifo):

        def swap_after(folder: Path, change=change) -> list[str]:
            names = check(folder)
            (folder / "model.onnx").unlink()
            change(folder / "model.onnx")
            return names

        monkeypatch.setattr(model_folder, "_check_names", swap_after)
        assert "is a link or no file" in refused(lambda: Classifier.load(model))
        (model / "model.onnx").unlink()
        shutil.copy(tmp_path / "same", model / "model.onnx")


def test_a_folder_that_is_swapped_half_way_is_refused_or_is_one_of_the_two(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever part is read before the swap, parts of two models are never put together."""
    other = shutil.copytree(model, tmp_path / "other")
    text = json.loads((other / "model.json").read_text()) | {"decision_threshold": 0.1}
    (other / "model.json").write_text(ModelDescription(**text).to_json())
    (other / "model.safetensors").write_bytes(
        (model / "model.safetensors").read_bytes()[:-4] + b"\0" * 4
    )
    fix_sums(other)
    assert Classifier.load(other).description.decision_threshold == 0.1
    read, outcomes = model_folder._read, set()
    for moment in range(6):
        folder = shutil.copytree(model, tmp_path / f"at {moment}")
        count = iter(range(99))

        def read_and_swap(path: Path, folder=folder, moment=moment, count=count) -> bytes:
            if next(count) == moment:
                folder.rename(tmp_path / f"old {moment}")
                shutil.copytree(other, folder)
            return read(path)

        monkeypatch.setattr(model_folder, "_read", read_and_swap)
        try:
            outcomes.add(Classifier.load(folder).description.decision_threshold)
        except ModelError as error:
            outcomes.add("is not as it was written" in str(error))
    assert outcomes == {0.1, 0.5, True}


def test_a_folder_that_is_swapped_again_and_again(model: Path, tmp_path: Path) -> None:
    """The same, against a process that swaps all the time."""
    other = shutil.copytree(model, tmp_path / "other")
    text = json.loads((other / "model.json").read_text()) | {"decision_threshold": 0.1}
    (other / "model.json").write_text(ModelDescription(**text).to_json())
    fix_sums(other)
    aside, stop = tmp_path / "aside", threading.Event()

    def swap_on() -> None:
        while not stop.is_set():
            model.rename(aside)
            other.rename(model)
            aside.rename(other)

    swapper = threading.Thread(target=swap_on)
    swapper.start()
    try:
        for _ in range(60):
            try:
                threshold = Classifier.load(model, threads=1).description.decision_threshold
            except ModelError:
                continue
            assert threshold in (0.1, 0.5)
    finally:
        stop.set()
        swapper.join()


# --- the command line --------------------------------------------------------------------------


def test_the_command_line_says_one_line_and_code_5(
    mark: Path, tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.pt").write_bytes(pickle.dumps(Evil(mark)))
    with h5py.File(tmp_path / "m.h5", "w") as store:
        store.attrs["model_config"] = json.dumps(lambda_config(mark))
        store.create_group("model_weights")
    bomb(tmp_path / "bomb.keras", "config.json", 16 << 20)
    for name in ("m.pt", "bomb.keras", "m.h5"):
        with pytest.raises(SystemExit) as end:
            app(["import", name, "--out", "OUT"])
        written = capfd.readouterr()  # of the process, libraries in C included
        assert (end.value.code, written.out) == (5, "")
        assert written.err.startswith(f"craters: error: {name}: ")
        assert written.err.count("\n") == 1
    assert not mark.exists()


def test_the_bombs_here_are_bombs() -> None:
    """A check that cannot fail is none: zlib does shrink what the bombs hold."""
    assert len(zlib.compress(bytes(1 << 20))) < 2000
