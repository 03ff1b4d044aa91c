"""The build of torch that `make serve` and the image install, and the way on if its index cannot be reached."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.hyperserve.scripted import Reply, scripted
from tools import install_torch


@pytest.fixture
def without_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install_torch, "CARDS", tmp_path / "none")
    monkeypatch.setattr(install_torch, "SMI_OF_WSL", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")


def put_smi(folder: Path, status: int) -> None:
    smi = folder / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\nexit {status}\n")
    smi.chmod(0o755)


class TestBuild:
    @pytest.mark.usefixtures("without_card")
    @pytest.mark.parametrize(
        ("choice", "index"),
        [
            ("", install_torch.CPU_INDEX),
            ("auto", install_torch.CPU_INDEX),
            ("cpu", install_torch.CPU_INDEX),
            ("cuda", ""),
        ],
    )
    def test_without_a_card(self, choice: str, index: str) -> None:
        assert install_torch.index_for(choice) == index

    @pytest.mark.usefixtures("without_card")
    @pytest.mark.parametrize("status", [0, 9])
    def test_a_card_that_nvidia_smi_lists(self, tmp_path: Path, status: int) -> None:
        put_smi(tmp_path, status)
        assert install_torch.has_nvidia_card() is (status == 0)
        assert install_torch.index_for("") == ("" if status == 0 else install_torch.CPU_INDEX)
        assert install_torch.index_for("cpu") == install_torch.CPU_INDEX

    @pytest.mark.usefixtures("without_card")
    def test_a_card_that_the_driver_lists(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(install_torch, "CARDS", tmp_path / "gpus")
        (tmp_path / "gpus").mkdir()
        assert not install_torch.has_nvidia_card()
        (tmp_path / "gpus" / "0000:01:00.0").mkdir()
        assert install_torch.has_nvidia_card()

    @pytest.mark.usefixtures("without_card")
    def test_on_other_systems_the_usual_build_is_small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        assert install_torch.index_for("") == ""

    def test_an_unknown_choice(self) -> None:
        with pytest.raises(SystemExit, match="TORCH=rocm is unknown"):
            install_torch.index_for("rocm")


def test_the_requirement_is_that_of_the_server() -> None:
    requirement = Requirement(install_torch.torch_requirement())
    assert requirement.name == "torch"
    assert requirement.specifier.contains("2.6")
    assert install_torch.is_installed("pip")
    assert not install_torch.is_installed("pip<1")
    assert not install_torch.is_installed("no-such-package-anywhere")


class TestIndex:
    def test_nobody_listens(self) -> None:
        assert not install_torch.is_reachable("http://127.0.0.1:9")

    def test_no_such_host(self) -> None:
        assert not install_torch.is_reachable("http://no-such-host.invalid/whl")

    @pytest.mark.parametrize("status", [200, 403, 404])
    def test_something_answers(self, status: int) -> None:
        with scripted(Reply(status)) as server:
            assert install_torch.is_reachable(server.url)

    def test_silence_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(install_torch, "PROBE_SECONDS", 1)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            started = time.monotonic()
            assert not install_torch.is_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}")
            assert time.monotonic() - started < 3


class TestInstallation:
    @pytest.fixture
    def commands(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        """Commands that were run instead of pip."""
        found: list[list[str]] = []

        def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[bytes]:
            found.append(command)
            return subprocess.CompletedProcess(command, 1)

        monkeypatch.setattr(install_torch, "is_installed", lambda _requirement: False)
        monkeypatch.setattr(install_torch, "is_reachable", lambda index: "away" not in index)
        monkeypatch.setattr(subprocess, "run", run)
        return found

    def test_torch_alone_comes_from_the_index(self, commands: list[list[str]]) -> None:
        install_torch.main(["https://here.example"])
        (command,) = commands
        assert command[-4:] == [
            "--no-deps",
            "--index-url",
            "https://here.example",
            install_torch.torch_requirement(),
        ]

    def test_an_index_that_is_away_is_left_out(
        self, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        install_torch.main(["https://away.example"])
        assert commands == []
        assert "https://away.example cannot be reached" in capsys.readouterr().err

    def test_the_usual_build_is_left_to_pip(self, commands: list[list[str]]) -> None:
        install_torch.main([""])
        assert commands == []

    def test_nothing_is_installed_twice(
        self, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(install_torch, "is_installed", lambda _requirement: True)
        install_torch.main(["https://here.example"])
        assert commands == []


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile", "README.md", "docker-compose.yml"])
def test_no_package_but_torch_comes_from_another_index(file: str) -> None:
    text = (install_torch.PYPROJECT.parent / file).read_text(encoding="utf-8")
    assert "extra-index-url" not in text
