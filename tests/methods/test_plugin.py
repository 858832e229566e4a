"""A method of another package, installed: it is found, trained, composed, merged, saved and loaded."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USED = """
import sys
sys.path.insert(0, {tests!r})
import torch
import adapterhub, tiny
from adapterhub import AdapterSetup, Rows

model = adapterhub.init(tiny.model("bert"))
model.add_adapter("a", config="ssf[roles=[q, down]]")
model.add_adapter("b", config="ssf|seq_bn")
inputs = tiny.inputs("bert", batch=2)
with torch.no_grad():
    bare = model(**inputs).last_hidden_state
    model.set_active_adapters("a")
    torch.testing.assert_close(model(**inputs).last_hidden_state, bare)
model.train_adapter("a")
optimizer = torch.optim.SGD(model.adapters["a"].parameters(), lr=0.1)
model(**inputs).last_hidden_state.square().sum().backward()
optimizer.step()
model.eval()
with torch.no_grad():
    changed = model(**inputs).last_hidden_state
    assert not torch.allclose(changed, bare)
    model.merge_adapter("a")
    torch.testing.assert_close(model(**inputs).last_hidden_state, changed, rtol=1e-4, atol=1e-5)
    model.reset_adapter()
    model.save_adapter({folder!r}, "a")
    model.load_adapter({folder!r}, load_as="c")
    with AdapterSetup(Rows(["c", None])):
        rows = model(**inputs).last_hidden_state
    torch.testing.assert_close(rows, torch.stack((changed[0], bare[1])))
print("used", adapterhub.named_configs()["ssf"].roles)
"""


def install(target: Path) -> None:
    source = shutil.copytree(ROOT / "examples" / "method_plugin", target.with_name(f"{target.name}-source"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True)


def run(code: str, target: Path) -> subprocess.CompletedProcess[str]:
    code = f"import site; site.addsitedir({str(target)!r})\n{textwrap.dedent(code)}"
    return subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=False)


def test_an_installed_method_is_one_like_any_other(tmp_path: Path) -> None:
    install(tmp_path / "packages")
    found = run(USED.format(tests=str(ROOT / "tests"), folder=str(tmp_path / "saved")), tmp_path / "packages")
    assert found.returncode == 0, found.stderr
    assert "used ('q', 'k', 'v', 'o', 'up', 'gate', 'down')" in found.stdout


@pytest.mark.parametrize(
    ("code", "named"),
    [("raise OSError('torn')", "torn"), ("class SSFConfig: pass", "no subclass"), ("", "SSFConfig")],
)
def test_one_that_is_broken_is_named_and_all_else_works(tmp_path: Path, code: str, named: str) -> None:
    install(tmp_path / "packages")
    (tmp_path / "packages" / "adapterhub_ssf.py").write_text(code)
    used = "import adapterhub; print(len(adapterhub.named_configs()) > 10, adapterhub.load_config('lora'))"
    found = run(used, tmp_path / "packages")
    assert found.returncode == 0 and found.stdout.startswith("True LoRAConfig")
    assert "'ssf'" in found.stderr and named in found.stderr
