"""From one person's model to another's, over a hub that runs."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import adapterhub
import tiny
from adapterhub.errors import (
    AmbiguousAdapterError,
    CheckpointNotFoundError,
    HubAccessError,
    HubUnreachableError,
    UploadRefusedError,
)
from adapterhub.hub.client.addresses import configured, home
from adapterhub.hub.lock import Lock
from adapterhub.saving import native
from hub.server.running import Running, start


def model(seed: int = 0) -> adapterhub.AutoAdapterModel:
    """A model whose weights are those of the seed."""
    made = tiny.model("bert")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.05, generator=generator)
    made.config._name_or_path = "tiny/bert"
    return adapterhub.init(made)


def trained(made: adapterhub.AutoAdapterModel, name: str, config: str = "seq_bn") -> torch.Tensor:
    """Give a model an adapter of random numbers; what it then puts out."""
    made.add_adapter(name, config=config)
    with torch.no_grad():
        for parameter in made.adapters[name].parameters():
            parameter.normal_(0, 0.05)
    made.set_active_adapters(name)
    return output(made)


def output(made: adapterhub.AutoAdapterModel) -> torch.Tensor:
    made.eval()
    with torch.no_grad():
        return made(input_ids=torch.arange(8)[None] + 5).last_hidden_state


def test_an_adapter_goes_there_and_comes_back(ann: Running) -> None:
    mine = model()
    there = trained(mine, "sst")
    done = mine.push_adapter_to_hub("sentiment/sst-2@ann", "sst", adapter_card_kwargs={"license": "mit"})
    assert done.repository == "ann/bert-sst-2-bottleneck"
    yours = model()
    for name in ("sentiment/sst-2@ann", "sentiment/sst-2", done.repository, f"@{done.repository}", done.url):
        loaded = yours.load_adapter(name, load_as="x", overwrite_ok=True, set_active=True)
        assert loaded == "x"
        assert torch.equal(output(yours), there)


def test_the_one_that_fits_this_model_is_taken(ann: Running) -> None:
    first, second = model(1), model(2)
    outputs = [trained(made, "pos", config) for made, config in ((first, "seq_bn"), (second, "lora"))]
    first.push_adapter_to_hub("pos/ud_en_ewt@ann", "pos")
    second.push_adapter_to_hub("pos/ud_en_ewt@ann", "pos")
    for seed, expected in ((1, outputs[0]), (2, outputs[1])):
        made = model(seed)
        made.load_adapter("pos/ud_en_ewt@ann", set_active=True)
        assert torch.equal(output(made), expected)
    with pytest.raises(AmbiguousAdapterError, match="ann/bert-ud_en_ewt"):
        adapterhub.pull("pos/ud_en_ewt@ann")
    stranger = model(3)
    stranger.config._name_or_path = "other/bert"
    with pytest.raises(CheckpointNotFoundError, match="in shape alone"):
        stranger.load_adapter("pos/ud_en_ewt@ann")


def test_a_configuration_says_which_one_is_meant(ann: Running) -> None:
    mine, outputs = model(), {}
    for index, config in enumerate(("seq_bn", "seq_bn[reduction_factor=2]", "lora[r=4]")):
        outputs[config] = trained(mine, f"nli{index}", config)
        mine.push_adapter_to_hub(f"ann/configured-{index}", f"nli{index}", adapterhub_tag="ner/conll2003")
    with pytest.raises(AmbiguousAdapterError, match="configured-"):
        model().load_adapter("ner/conll2003@ann")
    for config, expected in outputs.items():
        yours = model()
        yours.load_adapter("ner/conll2003@ann", config=config, set_active=True)
        assert torch.equal(output(yours), expected)
    yours = model()
    yours.load_adapter("ner/conll2003@ann", "lora", set_active=True)  # of this method alone, though of another rank
    assert torch.equal(output(yours), outputs["lora[r=4]"])
    with pytest.raises(CheckpointNotFoundError, match="its method is bottleneck, and ia3 is asked for"):
        model().load_adapter("ner/conll2003@ann", config="ia3")


def test_a_model_is_looked_through_once(ann: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = model()
    trained(mine, "a")
    trained(mine, "b", "lora")
    mine.push_adapter_to_hub("ann/looked-through", "a")
    mine.push_adapter_setup_to_hub("ann/looked-through-twice", adapterhub.Stack("a", "b"))
    calls = []
    fingerprint_of = native.fingerprint_of
    monkeypatch.setattr(native, "fingerprint_of", lambda *given: calls.append(1) or fingerprint_of(*given))
    yours = model()
    yours.load_adapter("ann/looked-through", load_as="x")
    assert len(calls) == 1
    yours.load_adapter_setup("ann/looked-through-twice")
    assert len(calls) == 2


def test_an_author_who_was_named_is_the_author(ann: Running) -> None:
    mine = model()
    trained(mine, "sst")
    mine.push_adapter_to_hub("sentiment/imdb@ann", "sst")
    with pytest.raises(CheckpointNotFoundError, match="bob"):
        model().load_adapter("sentiment/imdb@bob")


def test_what_was_fetched_works_without_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERHUB_HOME", str(tmp_path / "home"))
    hub = start(tmp_path / "hub")
    hub.add_user("ann")
    adapterhub.login(hub.token("ann"), hub.url)
    mine = model()
    there = trained(mine, "sst")
    mine.push_adapter_to_hub("sentiment/sst-2@ann", "sst")
    model().load_adapter("sentiment/sst-2@ann")
    hub.stop()
    yours = model()
    yours.load_adapter("sentiment/sst-2@ann", set_active=True)
    assert torch.equal(output(yours), there)
    with pytest.raises(HubUnreachableError):
        yours.load_adapter("sentiment/imdb@ann")


def test_a_lock_keeps_what_a_name_meant(ann: Running, tmp_path: Path) -> None:
    mine = model()
    old = trained(mine, "sst")
    mine.push_adapter_to_hub("ann/locked", "sst")
    lock = tmp_path / "adapters.lock"
    first = adapterhub.pull("@ann/locked", lock=lock)
    mine.delete_adapter("sst")
    new = trained(mine, "sst")
    mine.push_adapter_to_hub("ann/locked", "sst", tag="v2")
    assert adapterhub.pull("@ann/locked", lock=lock).folder == first.folder
    page = f"{ann.url}/ann/locked"
    newest = adapterhub.pull(page, lock=lock).folder  # an address is another name, locked as it was written
    assert newest != first.folder and set(Lock.read(lock).adapters) == {"@ann/locked", page}
    mine.push_adapter_to_hub("ann/locked", "sst", adapter_card_kwargs={"license": "mit"})
    assert adapterhub.pull(page, lock=lock).folder == newest != adapterhub.pull(page).folder
    yours = model()
    yours.load_adapter(adapterhub.pull("@ann/locked", lock=lock).folder, load_as="old", set_active=True)
    assert torch.equal(output(yours), old)
    yours.load_adapter("ann/locked", version="v2", load_as="new", set_active=True)
    assert torch.equal(output(yours), new)


def test_bytes_that_are_not_the_right_ones_are_not_kept(ann: Running) -> None:
    mine = model()
    trained(mine, "sst")
    done = mine.push_adapter_to_hub("ann/altered", "sst")
    pulled = adapterhub.pull("@ann/altered")
    weights = next(pulled.folder.glob("*.safetensors"))
    blob = weights.resolve()
    part = blob.with_name(f"{blob.name}.part")
    blob.rename(part)
    data = bytearray(part.read_bytes())
    part.chmod(0o644)
    part.write_bytes(data[: len(data) // 2])  # a download that was cut off goes on
    assert adapterhub.pull("@ann/altered").folder == pulled.folder
    assert bytes(data) == weights.read_bytes()
    blob.unlink()
    part.write_bytes(bytes(len(data) // 2))  # and one that went wrong begins anew
    with pytest.raises(adapterhub.errors.HubError, match="SHA-256"):
        adapterhub.pull("@ann/altered")
    assert adapterhub.pull("@ann/altered").found.commit == done.commit
    assert bytes(data) == weights.read_bytes()


def test_setups_of_other_formats_too(ann: Running) -> None:
    mine = model()
    trained(mine, "a")
    trained(mine, "b", "lora")
    mine.set_active_adapters(adapterhub.Stack("a", "b"))
    there = output(mine)
    mine.push_adapter_setup_to_hub("ann/both", adapterhub.Stack("a", "b"))
    mine.push_adapter_to_hub("ann/for-peft", "b", format="peft")
    yours = model()
    yours.load_adapter_setup("ann/both", set_active=True)
    assert torch.equal(output(yours), there)
    assert yours.load_adapter("ann/for-peft", load_as="peft") == "peft"


def test_what_a_hub_would_refuse_is_not_sent(ann: Running, tmp_path: Path) -> None:
    mine = model()
    trained(mine, "sst")
    mine.save_adapter(tmp_path / "adapter", "sst")
    (tmp_path / "adapter" / "more.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UploadRefusedError, match=r"more\.bin"):
        adapterhub.push(tmp_path / "adapter", "ann/refused")
    with pytest.raises(CheckpointNotFoundError):
        model().load_adapter("@ann/refused")
    shutil.rmtree(tmp_path / "adapter")
    mine.save_adapter(tmp_path / "adapter", "sst")
    with pytest.raises(HubAccessError, match="bob"):
        adapterhub.push(tmp_path / "adapter", "bob/mine")
    adapterhub.logout()
    with pytest.raises(HubAccessError, match="log in"):
        adapterhub.push(tmp_path / "adapter", "ann/refused", hub=ann.url)


def test_tokens_are_kept_for_the_user_alone(ann: Running) -> None:
    path = home() / "hubs.json"
    assert path.stat().st_mode & 0o077 == 0
    assert json.loads(path.read_text())["hubs"][0]["token"].startswith("ah_")
    assert "ah_" not in repr(configured())
    with pytest.raises(HubAccessError):
        adapterhub.login("ah_wrong", ann.url)
    adapterhub.logout()
    assert configured() == []


def test_adapters_are_listed_and_told_about(ann: Running) -> None:
    mine = model()
    trained(mine, "nli", "lora")
    mine.push_adapter_to_hub(
        "nli/rte@ann", "nli", datasets_tag="glue", adapter_card_kwargs={"scores": {"accuracy": 0.7}}
    )
    (found,) = adapterhub.list_adapters(task="nli", model="tiny/bert")
    assert (found.coordinate, found.method, found.base) == ("nli/rte@ann", "lora", "tiny/bert")
    told = adapterhub.get_adapter_info("nli/rte@ann")
    assert told["id"] == found.id
