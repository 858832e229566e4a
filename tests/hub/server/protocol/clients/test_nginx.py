"""nginx before a hub, set up as the documentation says, sends the bytes itself."""

import getpass
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapterhub.hub.server.settings import Settings
from hub.server.protocol.clients.conftest import LANES, ROOT, Talk, environment
from hub.server.protocol.conftest import people
from hub.server.running import start

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
pytestmark = pytest.mark.skipif(not Path(NGINX).exists(), reason="nginx is not installed")


@pytest.fixture
def talk_through_nginx(tmp_path: Path) -> Iterator[Talk]:
    hub = tmp_path / "hub"
    tokens = people(Settings(directory=hub))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    made = start(hub, **LANES[0].server, ADAPTERHUB_ACCEL="/protected")
    settings = re.search(r"```nginx\n(.*?)```", (ROOT / "docs" / "hub" / "clients.md").read_text(), re.DOTALL)
    assert settings is not None
    inside = settings[1].replace("http://127.0.0.1:8400", made.url).replace("/srv/hub/blobs", str(hub / "blobs"))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; user {getpass.getuser()}; pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}\n"
        f"http {{ access_log off; {places} server {{ listen 127.0.0.1:{port};\n{inside}\n}} }}"
    )
    nginx = subprocess.Popen([NGINX, "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "log")])
    address = made.url
    made.url = url
    _wait(port)
    yield Talk(made, LANES[0], tokens)
    made.url = address
    nginx.terminate()
    nginx.wait(30)
    made.stop()


def _wait(port: int) -> None:
    for _ in range(200):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)


def test_stock_clients_see_no_difference(talk_through_nginx: Talk, folder: Path, tmp_path: Path) -> None:
    one = talk_through_nginx
    python = environment("2.4.0")
    arguments = (str(folder), one.tokens["bob"], str(tmp_path), "ann/behind")
    found = one.run(python, "exchange.py", *arguments, home=tmp_path / "home")
    assert found["upload_folder"]["commit"] and found["snapshot"] == [True, ["adapter_model.safetensors"], True]
    assert found["checksums"] == [True, ["README.md"]] and found["create"]["url"]


def test_the_bytes_come_from_nginx_with_our_headers(talk_through_nginx: Talk, folder: Path, tmp_path: Path) -> None:
    one = talk_through_nginx
    code = (
        "import huggingface_hub as hf, sys; hf.create_repo('ann/x'); "
        "hf.upload_folder(repo_id='ann/x', folder_path=sys.argv[1])"
    )
    made = one.environment(tmp_path / "home")
    subprocess.run([environment("2.4.0"), "-c", code, str(folder)], env=made, check=True)
    weights = (folder / "adapter_model.safetensors").read_bytes()
    asked = urllib.request.Request(f"{one.server.url}/ann/x/resolve/main/adapter_model.safetensors")
    with urllib.request.urlopen(asked) as answer:
        assert answer.read() == weights and "x-accel-redirect" not in answer.headers
        assert len(answer.headers["X-Repo-Commit"]) == 40 and len(answer.headers["ETag"]) == 66
        assert answer.headers["Server"].startswith("nginx") and "attachment" in answer.headers["Content-Disposition"]
    asked.add_header("Range", "bytes=1000-1999")
    with urllib.request.urlopen(asked) as answer:
        assert (answer.status, answer.read()) == (206, weights[1000:2000])
