"""Which configuration is used when none is named."""

from __future__ import annotations

from pathlib import Path

from gateway.service.demo import choose_config
from models.catalog.config import load_config
from models.home import Home


def test_a_named_file_is_taken_as_it_is(home: Home, tmp_path: Path) -> None:
    choice = choose_config(Path("some.yaml"), home, tmp_path)
    assert choice.path == Path.cwd() / "some.yaml"
    assert not choice.demo
    assert not home.config.exists()


def test_a_file_where_the_user_is_comes_before_the_demo(home: Home, tmp_path: Path) -> None:
    (tmp_path / "roundhouse.yaml").write_text("models: []\n")
    choice = choose_config(None, home, tmp_path)
    assert (choice.path, choice.demo) == (tmp_path / "roundhouse.yaml", False)


def test_else_the_demo_is_written_and_it_is_valid(home: Home, tmp_path: Path) -> None:
    choice = choose_config(None, home, tmp_path)
    assert (choice.path, choice.demo) == (home.config, True)
    config = load_config(home.config)
    assert config.simulated_gpus
    assert len(config.models) >= 4
    assert [path.name for path in home.root.iterdir() if path.suffix == ".part"] == []


def test_the_demos_file_is_the_users_once_it_is_there(home: Home, tmp_path: Path) -> None:
    home.config.write_text("# mine now\nmodels: []\n")
    choice = choose_config(None, home, tmp_path)
    assert choice.demo
    assert home.config.read_text() == "# mine now\nmodels: []\n"


def test_naming_the_demos_file_is_the_same(home: Home, tmp_path: Path) -> None:
    choose_config(None, home, tmp_path)
    assert choose_config(home.config, home, tmp_path).demo
