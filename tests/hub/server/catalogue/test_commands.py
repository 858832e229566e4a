"""The commands that fill the catalogue."""

from pathlib import Path

from typer.testing import CliRunner

from adapterhub.cli.hub import app

RUN = CliRunner()


def test_the_archive_comes_in_by_one_command(tmp_path: Path, archived: Path) -> None:
    for told in ("291 entries are new, 0 changed, 0 stayed", "0 entries are new, 0 changed, 291 stayed"):
        result = RUN.invoke(app, ["import-archive", str(archived), "--dir", str(tmp_path / "hub")])
        assert result.exit_code == 0 and told in result.output
    result = RUN.invoke(app, ["reindex", "--dir", str(tmp_path / "hub")])
    assert result.exit_code == 0 and "indexed anew" in result.output
    result = RUN.invoke(app, ["import-archive", str(tmp_path / "none.tar.gz"), "--dir", str(tmp_path / "hub")])
    assert result.exit_code != 0 and "is no index of AdapterHub" in result.output + result.stderr
