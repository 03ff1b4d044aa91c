"""Names become learners; what is unknown is named."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.encoder_protocol import Encoder
from models.inputs import ImageInput, PhotoInput, VectorInput
from models.protocol import MetaLearner
from models.registry import (
    ENCODERS,
    METHODS,
    LearnerConfig,
    Registry,
    RegistryError,
    blank_encoder,
    build,
    complete,
    input_of,
)


def config(**changes: object) -> LearnerConfig:
    fields: dict[str, object] = {
        "code_version": "0",
        "method": "protonet",
        "encoder": "identity",
        "input": VectorInput(),
    }
    return LearnerConfig.model_validate({**fields, **changes})


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_a_meta_learner(name: str) -> None:
    assert issubclass(METHODS[name], MetaLearner)
    assert METHODS[name].Config()


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_is_an_encoder(name: str) -> None:
    assert issubclass(ENCODERS[name], Encoder)


def test_a_description_builds_a_learner() -> None:
    learner = build(config(encoder="conv4", encoder_hparams={"width": 4}, input=ImageInput()))
    assert type(learner) is METHODS["protonet"]
    assert learner.encoder.dim == 4


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"method": "astrology"}, "unknown method 'astrology'.*protonet"),
        ({"encoder": "eye"}, "unknown encoder 'eye'.*conv4"),
        ({"hparams": {"metrik": "cosine"}}, "'protonet'.*'metrik'"),
        ({"hparams": {"metric": "cosinus"}}, "'protonet'.*'metric'"),
        ({"encoder_hparams": {"width": 3}}, "'identity'.*'width'"),
    ],
)
def test_the_culprit_is_named(changes: dict[str, object], culprit: str) -> None:
    with pytest.raises(RegistryError, match=culprit):
        build(config(**changes))


def test_a_complete_description_holds_every_default() -> None:
    completed = complete(config())
    assert completed.hparams == {"metric": "euclidean"}
    assert complete(completed) == completed


def test_nothing_is_imported_before_it_is_needed() -> None:
    lines = (
        "import sys, models.registry as r",
        "assert 'models.fewshot.hyperset' not in sys.modules and 'models.encoders.conv4' not in sys.modules",
        "r.METHODS['hyperset']",
        "assert 'models.fewshot.hyperset' in sys.modules",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_a_registry_is_a_mapping() -> None:
    assert "protonet" in METHODS
    assert "astrology" not in METHODS
    assert len(METHODS) == len(list(METHODS))
    with pytest.raises(KeyError):
        METHODS["astrology"]


def installed(folder: Path, name: str, points: dict[str, str], code: str = "") -> None:
    """Install a package as far as `importlib.metadata` looks: a module `<name>` and its entry points for methods."""
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8"
    )
    lines = [f"{point} = {value}" for point, value in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[plugins.for.tests]", *lines]), encoding="utf-8")


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[MetaLearner]:
    """A registry of one bundled method whose plug-ins are those installed in `tmp_path`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    paths = {"protonet": METHODS.paths["protonet"]}
    return Registry("method", MetaLearner, paths, "plugins.for.tests")  # type: ignore[type-abstract]


GOOD = "from models.fewshot.protonet import ProtoNet\nclass Mine(ProtoNet): ...\n"


def test_methods_of_other_packages_are_found_by_entry_points(
    plugins: Registry[MetaLearner], tmp_path: Path
) -> None:
    installed(tmp_path, "found_plugin", {"mine": "found_plugin:Mine"}, GOOD)
    assert list(plugins) == ["protonet", "mine"]
    assert "mine" in plugins
    assert "found_plugin" not in sys.modules
    assert plugins["mine"].__name__ == "Mine"
    assert plugins.configured("mine", {"metric": "cosine"})[0] is plugins["mine"]
    plugins.check_plugins()


def test_a_plugin_with_a_name_of_hyperserve_is_named(plugins: Registry[MetaLearner], tmp_path: Path) -> None:
    installed(tmp_path, "clash_plugin", {"protonet": "clash_plugin:Mine"}, GOOD)
    with pytest.raises(
        RegistryError, match=r"package clash_plugin 1\.0 registers the method 'protonet'.*rename"
    ):
        plugins["protonet"]


def test_two_plugins_with_one_name_are_named(plugins: Registry[MetaLearner], tmp_path: Path) -> None:
    installed(tmp_path, "first_plugin", {"mine": "first_plugin:Mine"}, GOOD)
    installed(tmp_path, "second_plugin", {"mine": "second_plugin:Mine"}, GOOD)
    with pytest.raises(
        RegistryError, match=r"first_plugin 1\.0 and .*second_plugin 1\.0 both register .*'mine'"
    ):
        len(plugins)


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("raising_plugin", "1 / 0\n", "cannot be loaded from 'raising_plugin:Mine': ZeroDivisionError"),
        ("empty_plugin", "", "cannot be loaded from 'empty_plugin:Mine': AttributeError"),
        ("other_plugin", "class Mine: ...\n", "is no subclass of models.protocol.MetaLearner"),
        (
            "bare_plugin",
            "from models.protocol import MetaLearner\nclass Mine(MetaLearner): ...\n",
            "has no pydantic model `Config`",
        ),
    ],
)
def test_a_broken_plugin_says_what_is_wrong_and_leaves_the_others_alone(
    plugins: Registry[MetaLearner], tmp_path: Path, name: str, code: str, reason: str
) -> None:
    installed(tmp_path, name, {"mine": f"{name}:Mine"}, code)
    assert plugins["protonet"] is METHODS["protonet"]
    with pytest.raises(
        RegistryError, match=rf"method 'mine' of the package {name} 1\.0 .*{re.escape(reason)}"
    ):
        plugins["mine"]
    with pytest.raises(RegistryError, match="'mine'"):
        plugins.check_plugins()


def test_a_learner_of_a_missing_plugin_names_the_group() -> None:
    with pytest.raises(
        RegistryError, match=r"a package may be missing that registers it in 'hyperserve\.methods'"
    ):
        build(config(method="not-installed"))


def test_an_encoder_states_its_input_without_memory() -> None:
    state = torch.get_rng_state()
    assert input_of("conv4") == ImageInput()
    assert input_of("conv4", crop=True) == ImageInput(crop=True)
    assert input_of("conv4-rgb", {"size": 64}) == PhotoInput(size=64)
    assert input_of("identity", {"dim": 3}, crop=True) == VectorInput(dim=3)
    assert all(value.device.type == "meta" for value in blank_encoder("conv4").state_dict().values())
    assert torch.get_rng_state().equal(state)
