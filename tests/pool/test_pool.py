"""Pools: an adapter of a pool gives what it gives when ``load_adapter`` loads it alone, whatever was loaded before."""

import asyncio
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import adapterhub
import tiny
from adapterhub.errors import (
    AdapterExistsError,
    AdapterNotFoundError,
    BaseModelMismatchError,
    CheckpointNotFoundError,
    CompositionError,
    CorruptCheckpointError,
    HeadError,
    PoolError,
    TensorMismatchError,
)

INPUTS = tiny.inputs("bert")
SMALL = "seq_bn[reduction_factor=8]"
LORA = "lora[r=4, attn_matrices=[q, v]]"
# Six adapters: of two configurations, with heads of three classes and of two.
ADAPTERS = {f"a{number}": (SMALL if number < 4 else LORA, 2 + number % 2) for number in range(6)}


def fresh(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return adapterhub.BertAdapterModel(tiny.config("bert")).eval()


def randomise(module: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3, generator=generator)


def save(folder: Path, name: str, config: str, labels: int, seed: int, seed_of_base: int = 0) -> Path:
    """A folder with an adapter and a head of random values."""
    model = fresh(seed_of_base)
    model.add_adapter(name, config=config)
    names = {index: f"{name}-{index}" for index in range(labels)}
    model.add_classification_head(name, num_labels=labels, id2label=names)
    randomise(model.adapters[name], seed)
    randomise(model.heads[name], seed + 100)
    model.save_adapter(folder / name, name)
    return folder / name


def alone(folder: Path, inputs: dict[str, Tensor] = INPUTS) -> Tensor:
    """The logits of the adapter in a folder, loaded by itself into a new model."""
    model = fresh()
    model.load_adapter(folder, set_active=True)
    with torch.no_grad():
        return model(**inputs).logits


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of folders of adapters, which no test changes."""
    root = tmp_path_factory.mktemp("adapters")
    for seed, (name, (config, labels)) in enumerate(ADAPTERS.items()):
        save(root, name, config, labels, seed)
    return root


@pytest.fixture(scope="session")
def wanted(saved: Path) -> dict[str, Tensor]:
    """What each of them gives alone."""
    return {name: alone(saved / name) for name in ADAPTERS}


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(saved, tmp_path / "adapters"))


def pooled(saved: Path, **options: Any) -> tuple[Any, Any]:
    """A model, and a pool of it that knows all adapters in a folder."""
    model = fresh()
    pool = model.adapter_pool(**options)
    pool.register_folder(saved)
    return model, pool


def logits(model: Any, **arguments: Any) -> Tensor:
    with torch.no_grad():
        return model(**INPUTS, **arguments).logits


def slot_bytes(saved: Path, *names: str) -> int:
    """What adapters with their heads take on the device."""
    _, pool = pooled(saved)
    found = [pool._entries[name].kinds.values() for name in names]
    return sum(kind.size_in(None) for kinds in found for kind in kinds)


def weights(folder: Path, part: str = "adapter") -> Path:
    return next(folder.glob(f"{part}.*.safetensors"))


def test_activates_each_with_its_head_and_labels(saved: Path, wanted: dict[str, Tensor]) -> None:
    model, pool = pooled(saved)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for name in (*ADAPTERS, *reversed(ADAPTERS)):
        pool.activate(name)
        assert pool.active == name
        torch.testing.assert_close(logits(model), wanted[name])
        assert model.config.id2label == {index: f"{name}-{index}" for index in range(ADAPTERS[name][1])}
    after = model.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[key], after[key]) for key in before)
    assert list(model.adapters) == [] and list(model.heads) == []


def test_without_an_active_one_the_model_is_bare(saved: Path) -> None:
    model, pool = pooled(saved)
    with torch.no_grad():
        bare = fresh()(**INPUTS).last_hidden_state
        pool.activate("a1")
        pool.activate(None)
        assert torch.equal(model(**INPUTS).last_hidden_state, bare)
    assert pool.active is None and model.active_adapters is None and model.active_head is None
    assert not any(module._forward_hooks for module in model.modules())


def test_another_of_the_same_configuration_is_one_number(saved: Path) -> None:
    model, pool = pooled(saved)
    pool.load("a0", "a2")
    pool.activate("a0")
    plan = model.engine.active
    pool.activate("a2")
    assert model.engine.active is plan


def test_every_row_has_its_own(saved: Path, wanted: dict[str, Tensor]) -> None:
    model, pool = pooled(saved)
    with pool.rows(["a0", "a2", "a2"]) as arguments:
        found = logits(model, **arguments)
    rows = [wanted["a0"][0], wanted["a2"][1], wanted["a2"][2]]
    torch.testing.assert_close(found, torch.stack(rows))


def test_rows_of_several_configurations_and_heads(saved: Path, wanted: dict[str, Tensor]) -> None:
    model, pool = pooled(saved)
    with pool.rows(["a5", None, "a0"]) as arguments, torch.no_grad():
        output = model(**INPUTS, **arguments)
    pairs = zip(output.rows, output, strict=True)
    found = {int(row): one for own, head in pairs for row, one in zip(own, head.logits, strict=True)}
    assert sorted(found) == [0, 2]
    torch.testing.assert_close(found[0], wanted["a5"][0])
    torch.testing.assert_close(found[2], wanted["a0"][2])


def test_rows_without_an_adapter_are_those_of_the_bare_model(saved: Path) -> None:
    model = fresh()
    pool = model.adapter_pool()
    pool.register("a0", saved / "a0", with_head=False)
    with torch.no_grad():
        bare = model(**INPUTS).last_hidden_state
        with pool.rows([None, "a0", None]) as arguments:
            found = model(**INPUTS, **arguments).last_hidden_state
        with pool.rows([None] * 3) as arguments:
            assert torch.equal(model(**INPUTS, **arguments).last_hidden_state, bare)
    torch.testing.assert_close(found[[0, 2]], bare[[0, 2]])
    assert not torch.allclose(found[1], bare[1])


def test_rows_leave_what_is_active(saved: Path, wanted: dict[str, Tensor]) -> None:
    model, pool = pooled(saved)
    pool.activate("a1")
    with pool.rows(["a4"] * 3) as arguments:
        torch.testing.assert_close(logits(model, **arguments), wanted["a4"])
    torch.testing.assert_close(logits(model), wanted["a1"])


def test_rows_of_no_batch(saved: Path) -> None:
    _, pool = pooled(saved)
    with pytest.raises(CompositionError, match="no row"), pool.rows([]):
        pass


def test_heads_that_do_not_run_as_one(tmp_path: Path) -> None:
    for seed, name in enumerate(("x", "y")):
        model = fresh()
        model.add_adapter(name, config=SMALL)
        model.add_masked_lm_head(name)
        randomise(model.adapters[name], seed)
        randomise(model.heads[name], seed + 7)
        model.save_adapter(tmp_path / name, name)
    model, pool = pooled(tmp_path)
    with pool.rows(["y", "x", "x"]) as arguments:
        found = logits(model, **arguments)
    rows = [alone(tmp_path / name)[row] for row, name in enumerate(("y", "x", "x"))]
    torch.testing.assert_close(found, torch.stack(rows))


@pytest.mark.parametrize("kind", ["tagging", "qa"])
def test_heads_over_every_token(tmp_path: Path, kind: str) -> None:
    for seed, name in enumerate(("x", "y")):
        model = fresh()
        model.add_adapter(name, config=SMALL)
        getattr(model, f"add_{kind}_head")(name)
        randomise(model.adapters[name], seed)
        randomise(model.heads[name], seed + 7)
        model.save_adapter(tmp_path / name, name)
    model, pool = pooled(tmp_path)
    key = "logits" if kind == "tagging" else "end_logits"
    with pool.rows(["y", "x", "x"]) as arguments, torch.no_grad():
        found = model(**INPUTS, **arguments)[key]
    for row, name in enumerate(("y", "x", "x")):
        other = fresh()
        other.load_adapter(tmp_path / name, set_active=True)
        with torch.no_grad():
            torch.testing.assert_close(found[row], other(**INPUTS)[key][row])


def test_several_heads_take_no_labels(saved: Path) -> None:
    model, pool = pooled(saved)
    with pool.rows(["a0", "a2", "a0"]) as arguments, pytest.raises(HeadError, match="labels given for rows of several"):
        model(**INPUTS, **arguments, labels=torch.zeros(3, dtype=torch.long))


def test_registering_reads_no_values(folder: Path, wanted: dict[str, Tensor]) -> None:
    path = weights(folder / "a0")
    data = bytearray(path.read_bytes())
    data[-4:] = bytes(4)
    path.write_bytes(data)
    model, pool = pooled(folder)
    pool.activate("a1")
    for _ in range(2):
        with pytest.raises(CorruptCheckpointError, match="SHA-256 is not that of the manifest"):
            pool.activate("a0")
    assert pool.active == "a1" and "a0" not in pool.loaded
    torch.testing.assert_close(logits(model), wanted["a1"])


@pytest.mark.parametrize("keep", [0, 7, 60, -4])
def test_a_truncated_file_is_not_registered(folder: Path, keep: int) -> None:
    path = weights(folder / "a0")
    path.write_bytes(path.read_bytes()[:keep])
    pool = fresh().adapter_pool()
    with pytest.raises(CorruptCheckpointError, match="safetensors"):
        pool.register_folder(folder)
    assert len(pool) == 0
    assert pool.register_folder(folder, ignore_unfit=True) == [name for name in ADAPTERS if name != "a0"]


def test_a_file_that_vanishes(folder: Path, wanted: dict[str, Tensor]) -> None:
    model, pool = pooled(folder)
    shutil.rmtree(folder / "a0")
    with pytest.raises(CheckpointNotFoundError, match=r"gone.*register it again"):
        pool.load("a0")
    with pytest.raises(CheckpointNotFoundError), pool.rows(["a1", "a0"]):
        pass
    pool.activate("a1")
    torch.testing.assert_close(logits(model), wanted["a1"])
    pool.unregister("a0")
    pool.activate(None)
    pool.unregister("a1")
    assert "a0" not in pool and "a1" not in pool


def test_a_new_version_is_registered_again(folder: Path) -> None:
    model, pool = pooled(folder)
    pool.load("a0")
    save(folder, "a0", SMALL, 3, seed=50)
    pool.register("a0", folder / "a0", overwrite_ok=True)
    pool.activate("a0")
    torch.testing.assert_close(logits(model), alone(folder / "a0"))


def test_what_does_not_fit_is_refused(saved: Path, tmp_path: Path) -> None:
    save(tmp_path / "other", "x", SMALL, 2, 0, seed_of_base=1)
    pool = fresh().adapter_pool()
    with pytest.raises(BaseModelMismatchError, match="another base model"):
        pool.register("x", tmp_path / "other" / "x")
    assert pool.register(None, tmp_path / "other" / "x", allow_other_base=True) == "x"
    with pytest.raises(CheckpointNotFoundError):
        pool.register("nothing", tmp_path)
    with pytest.raises(CheckpointNotFoundError):
        pool.register_folder(saved / "a0")
    pool.register("a0", saved / "a0")
    with pytest.raises(AdapterExistsError, match="a0"):
        pool.register_folder(saved)
    assert list(pool) == ["x", "a0"]
    with pytest.raises(AdapterNotFoundError, match="a7"):
        pool.activate("a7")


def test_tensors_of_another_shape_are_refused(folder: Path) -> None:
    manifest = folder / "a0" / "adapter_config.json"
    manifest.write_text(manifest.read_text().replace('"reduction_factor": 8', '"reduction_factor": 4'))
    with pytest.raises(TensorMismatchError, match="another shape"):
        fresh().adapter_pool().register("a0", folder / "a0")


def test_a_model_without_flexible_heads(saved: Path) -> None:
    model = adapterhub.init(tiny.model("bert"))
    pool = model.adapter_pool()
    with pytest.raises(HeadError, match="with_head=False"):
        pool.register("a0", saved / "a0", allow_other_base=True)
    pool.register("a0", saved / "a0", with_head=False, allow_other_base=True)
    pool.activate("a0")
    found = model(**INPUTS).last_hidden_state
    model.set_active_adapters(None)
    model.load_adapter(saved / "a0", with_head=False, set_active=True, allow_other_base=True)
    torch.testing.assert_close(found, model(**INPUTS).last_hidden_state)


def test_what_was_used_longest_ago_makes_room(saved: Path, wanted: dict[str, Tensor]) -> None:
    model, pool = pooled(saved, device_bytes=2 * slot_bytes(saved, "a4"))
    pool.load("a0", "a2", "a0")
    pool.activate("a0")
    with torch.no_grad(), pytest.raises(PoolError, match="in use or pinned"), pool.rows(["a0", "a2", "a1"]):
        pass
    pool.activate(None)
    pool.load("a0", "a2")
    with pytest.raises(PoolError, match="no room for adapter 'a4'"):
        pool.pin("a0")
        pool.pin("a2")
        pool.load("a4")
    pool.unpin("a2")
    pool.load("a4")
    assert "a2" not in pool.loaded and "a0" in pool.loaded
    pool.unpin("a0")
    for name in ADAPTERS:
        pool.activate(None)
        pool.activate(name)
        torch.testing.assert_close(logits(model), wanted[name])
    assert pool.statistics.evictions > 0


def test_the_order_of_eviction(saved: Path) -> None:
    names = ["a0", "a2"]  # of one kind, as are their heads
    _, pool = pooled(saved, device_bytes=slot_bytes(saved, *names))
    pool.load("a0", "a2", "a0")
    assert pool.loaded == ["a2", "a0"]
    pool.evict("a2")
    assert pool.loaded == ["a0"]
    pool.load("a2")
    assert pool.loaded == ["a0", "a2"]
    statistics = pool.statistics
    assert (statistics.hits, statistics.misses, statistics.loaded) == (1, 3, 2)


@pytest.mark.parametrize("room", [5, 6, 8])
def test_any_order_of_use_within_a_budget(saved: Path, wanted: dict[str, Tensor], room: int) -> None:
    limit = room * slot_bytes(saved, "a5")  # the largest
    model, pool = pooled(saved, device_bytes=limit)
    choose = random.Random(0)
    for step in range(60):
        name = choose.choice(list(ADAPTERS))
        pool.activate(name)
        assert pool.statistics.device_bytes <= limit
        if step % 3 == 0:
            torch.testing.assert_close(logits(model), wanted[name])


def test_host_memory_is_read_before_the_disk(folder: Path, wanted: dict[str, Tensor]) -> None:
    everything = slot_bytes(folder, *ADAPTERS)
    model, pool = pooled(folder, device_bytes=slot_bytes(folder, "a4", "a5"), memory_bytes=everything)
    pool.load(*ADAPTERS)
    shutil.rmtree(folder)
    for name in ADAPTERS:
        pool.activate(name)
        torch.testing.assert_close(logits(model), wanted[name])
    statistics = pool.statistics
    assert statistics.from_memory >= 4 and statistics.in_memory == 6
    assert statistics.memory_bytes == everything


def test_host_memory_has_a_budget(saved: Path) -> None:
    one = slot_bytes(saved, "a0")
    _, pool = pooled(saved, memory_bytes=2 * one)
    pool.load(*ADAPTERS)
    assert pool.statistics.memory_bytes <= 2 * one and pool.statistics.in_memory in (1, 2, 3)


def test_threads_each_have_their_rows(saved: Path, wanted: dict[str, Tensor]) -> None:
    model, pool = pooled(saved, device_bytes=4 * slot_bytes(saved, "a0"), memory_bytes=slot_bytes(saved, "a0"))
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        choose = random.Random(seed)
        try:
            for _ in range(12):
                name = choose.choice(["a0", "a1", "a2", "a3", "a4", "a5"])
                with pool.rows([name] * 3) as arguments:
                    torch.testing.assert_close(logits(model, **arguments), wanted[name])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [error for error in errors if not isinstance(error, PoolError)] == []
    assert all(entry.uses == 0 and not entry.loading for entry in pool._entries.values())


def test_tasks_of_asyncio_each_have_their_rows(saved: Path, wanted: dict[str, Tensor]) -> None:
    model, pool = pooled(saved)

    async def answer(name: str) -> Tensor:
        with pool.rows([name] * 3) as arguments:
            await asyncio.sleep(0)
            return logits(model, **arguments)

    async def all_of_them() -> list[Tensor]:
        return await asyncio.gather(*(answer(name) for name in ADAPTERS))

    for name, found in zip(ADAPTERS, asyncio.run(all_of_them()), strict=True):
        torch.testing.assert_close(found, wanted[name])


@pytest.mark.parametrize("format", ["adapters", "peft"])
def test_folders_of_other_libraries(tmp_path: Path, format: str) -> None:
    model = fresh()
    model.add_adapter("x", config=LORA)
    randomise(model.adapters["x"], 3)
    model.save_adapter(tmp_path / "x", "x", format=format, with_head=False)
    model.set_active_adapters("x")
    with torch.no_grad():
        found = model(**INPUTS).last_hidden_state
    other = fresh()
    pool = other.adapter_pool()
    pool.register("y", tmp_path / "x")
    pool.activate("y")
    with torch.no_grad():
        torch.testing.assert_close(other(**INPUTS).last_hidden_state, found)
    assert list(other.adapters) == []


def test_what_no_bank_takes_is_an_adapter_of_the_model(tmp_path: Path) -> None:
    def mixture() -> Any:
        return adapterhub.init(tiny.model("mixtral"))

    inputs = tiny.inputs("mixtral")
    outputs = {}
    for seed, name in enumerate(("x", "y")):
        model = mixture()
        model.add_adapter(name, config="lora[r=2, target_modules=[gate_up_proj]]", set_active=True)
        randomise(model.adapters[name], seed)
        model.save_adapter(tmp_path / name, name)
        outputs[name] = model(**inputs).last_hidden_state
    model = mixture()
    pool = model.adapter_pool(device_bytes=1)
    pool.register_folder(tmp_path)
    with pytest.raises(PoolError, match="no room"):
        pool.activate("x")
    pool = model.adapter_pool(device_bytes=pool._entries["x"].kinds["adapter"].size_in(None))
    pool.register_folder(tmp_path)
    for name in ("x", "y", "x"):
        pool.activate(None)
        pool.activate(name)
        torch.testing.assert_close(model(**inputs).last_hidden_state, outputs[name])
        assert list(model.adapters) == [name]
    with pool.rows([None, "x", None]) as arguments:
        found = model(**inputs, **arguments).last_hidden_state
    torch.testing.assert_close(found[1], outputs["x"][1])


@pytest.mark.parametrize("config", ["double_seq_bn", "ia3", "prefix_tuning[flat=True]", "loreft", "mam"])
def test_methods(config: str, tmp_path: Path) -> None:
    for seed, name in enumerate(("x", "y")):
        save(tmp_path, name, config, 2, seed)
    model, pool = pooled(tmp_path)
    with pool.rows(["x", "y", "y"]) as arguments:
        found = logits(model, **arguments)
    rows = [alone(tmp_path / name)[row] for row, name in enumerate(("x", "y", "y"))]
    torch.testing.assert_close(found, torch.stack(rows), atol=1e-5, rtol=1e-5)


def test_adapters_that_were_trained_otherwise_are_of_one_kind(tmp_path: Path) -> None:
    save(tmp_path, "x", "seq_bn[dropout=0.1, init_weights_seed=1]", 2, 0)
    save(tmp_path, "y", "seq_bn[init_weights_seed=2]", 2, 1)
    model, pool = pooled(tmp_path)
    pool.load("x", "y")
    assert len(model.engine.banks) == 1 and len(model.head_banks) == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "int4"])
def test_values_that_are_stored_in_fewer_bits(tmp_path: Path, dtype: str) -> None:
    model = fresh()
    model.load_adapter(save(tmp_path / "plain", "x", SMALL, 2, 0))
    model.save_adapter(tmp_path / "packed" / "x", "x", dtype=dtype)
    pooled_model, pool = pooled(tmp_path / "packed")
    pool.activate("x")
    torch.testing.assert_close(logits(pooled_model), alone(tmp_path / "packed" / "x"))


def test_values_in_half_the_bytes(saved: Path, wanted: dict[str, Tensor]) -> None:
    model, pool = pooled(saved, dtype=torch.bfloat16)
    pool.activate("a0")
    (bank,) = model.engine.banks.values()
    assert all(tensor.dtype == torch.bfloat16 for tensor in bank.tensors(0).values())
    torch.testing.assert_close(logits(model), wanted["a0"], atol=0.1, rtol=0.1)
