"""Every app keeps the contract, runs with every router of the core, and the packages keep apart."""

import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import docstring_parser
import pytest
import yaml
from collegium import gates, routers
from collegium.testing import exported

from apps.common.commands import run_lightning
from apps.common.contract import app_imports, check_app, imports, with_router
from apps.common.discovery import app_module, app_names, training_configs
from apps.common.errors import UserError
from apps.pointcloud.cloud import Cloud
from apps.pointcloud.features import Scan, scan_of

ROOT = Path(__file__).parents[2]
APPS = app_names()
ROUTERS = list(exported(routers, routers.Router))


@pytest.fixture(scope="module", autouse=True)
def _generated_scans_are_read_once() -> Iterator[None]:
    """They are the same in every test, and to put them on their grids takes seconds."""
    kept: dict[tuple[Any, ...], Scan] = {}

    def once(cloud: Cloud, *told: Any) -> Scan:
        key = cloud.xyz.tobytes(), *told
        if key not in kept:
            kept[key] = scan_of(cloud, *told)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apps.pointcloud.data.scan_of", once)
        yield


@pytest.mark.parametrize("app", APPS)
def test_an_app_has_what_the_contract_lists(app: str) -> None:
    assert check_app(app) == []


@pytest.mark.parametrize(
    ("module", "name"), [("data", "Data"), ("predict", "predict"), ("evaluate", "evaluate")]
)
@pytest.mark.parametrize("app", APPS)
def test_every_option_tells_what_it_is(app: str, module: str, name: str) -> None:
    target = getattr(app_module(app, module), name)
    told = {param.arg_name: param.description for param in docstring_parser.parse(target.__doc__).params}
    assert [option for option in signature(target).parameters if not told.get(option)] == []


def test_every_config_belongs_to_an_app() -> None:
    assert {path.parent.name for path in (ROOT / "configs").rglob("*.yaml")} <= set(APPS)


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("app", APPS)
def test_an_app_trains_with_a_router_or_refuses_it_in_one_sentence(
    app: str, router: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path / "runs"))
    (default,) = (path for path in training_configs(app) if path.stem == "default")
    config = tmp_path / "default.yaml"
    config.write_text(yaml.safe_dump(with_router(default, f"collegium.routers.{router}")))
    refusal = two_steps(app, config)
    if refusal is not None:
        assert router in refusal
        assert "\n" not in refusal
        built = getattr(routers, router)(8, 4)
        asks = (
            built.needs
            or not built.causal
            or built.outputs is not None
            or "must divide num_experts" in refusal
        )
        assert asks, f"{router} asks nothing of an app, but: {refusal}"


GATES = list(exported(gates, gates.Gate))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("app", APPS)
def test_an_app_trains_with_a_gate_or_refuses_it_in_one_sentence(
    app: str, gate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path / "runs"))
    (default,) = (path for path in training_configs(app) if path.stem == "default")
    content = yaml.safe_dump(with_router(default, "collegium.routers.TopP"))
    named = {"class_path": "collegium.routers.TopP", "init_args": {"gate": f"collegium.gates.{gate}"}}
    config = tmp_path / "default.yaml"
    config.write_text(yaml.safe_dump(_with_gate(yaml.safe_load(content), named)))
    refusal = two_steps(app, config)
    if refusal is not None:
        assert getattr(gates, gate)(8, 4).needs, f"{gate} asks nothing of an app, but: {refusal}"
        assert "\n" not in refusal


def _with_gate(node: Any, router: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        if node.get("class_path") == router["class_path"]:
            return router
        return {key: _with_gate(value, router) for key, value in node.items()}
    return [_with_gate(value, router) for value in node] if isinstance(node, list) else node


@pytest.mark.parametrize("app", APPS)
def test_a_router_stands_in_one_line_of_a_config(app: str) -> None:
    for path in training_configs(app):
        lines = [line for line in path.read_text().splitlines() if line.strip().startswith("router:")]
        assert all("class_path: " in line or "collegium." in line for line in lines), path
        assert lines, path


TERMS = {
    "load_balance": 0.01,
    "GlobalLoadBalance": 0.01,
    "z_loss": 0.01,
    "entropy": 0.01,
    "importance_cv": 0.01,
    "load_cv": 0.01,
    "information": 0.01,
    "concentration": 0.01,
    "heterogeneous": {"weight": 0.01, "cheap": 1},
    "latency_cv": {"weight": 0.01, "latency": [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]},
    "consistency": 1.0,
    "BiasBalance": 0.001,
}


@pytest.mark.parametrize("app", APPS)
def test_an_app_trains_with_every_balance_term_by_a_line_or_refuses_it_in_one_sentence(
    app: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path / "runs"))
    (default,) = (path for path in training_configs(app) if path.stem == "default")
    content = yaml.safe_load(default.read_text())
    config, terms = tmp_path / "default.yaml", dict(TERMS)
    content["model"]["balance"] = terms
    config.write_text(yaml.safe_dump(content))
    while (refusal := two_steps(app, config)) is not None:
        named = [name for name in ("consistency", "BiasBalance", "latency_cv") if name in refusal]
        assert len(named) == 1, refusal
        del terms[named[0]]
        config.write_text(yaml.safe_dump(content))
        assert "\n" not in refusal


def two_steps(app: str, config: Path) -> str | None:
    """Train two steps; return the sentence that refuses to."""
    try:
        run_lightning(app, ["fit", "--config", str(config), "--trainer.fast_dev_run", "2"])
    except UserError as error:
        return str(error)
    return None


def test_the_core_imports_torch_alone() -> None:
    known = {"collegium", "torch"} | sys.stdlib_module_names
    for file in (ROOT / "core" / "collegium").rglob("*.py"):
        assert {name.partition(".")[0] for name in imports(file)} <= known, file


def test_what_apps_share_knows_no_app() -> None:
    assert app_imports(ROOT / "apps" / "common") == {}
