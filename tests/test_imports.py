"""The arrows of the house: who may import whom, lazy imports inside functions included."""

import ast
import inspect
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import llmlat
from llmlat.config import PACKAGE_DIR

FILES = sorted(PACKAGE_DIR.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE_DIR.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """Yield the dotted name of everything that a source imports, wherever the statement stands."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            base = ".".join(filter(None, [above if node.level else "", node.module or ""]))
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _is_import_call(node):
            assert isinstance(node.args[0], ast.Constant), "a computed import hides from this test"
            yield str(node.args[0].value)


def _is_import_call(node: ast.Call) -> bool:
    return ast.unparse(node.func) in {"__import__", "import_module", "importlib.import_module"}


IMPORTS = {
    module_name(path): set(
        imports(path.read_text(encoding="utf-8"), module_name(path), path.name == "__init__.py")
    )
    for path in FILES
}


def below(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def offenders(room: str, forbidden: set[str]) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        if below(module, room)
        for name in names
        if any(below(name, other) for other in forbidden)
    ]


def importers(package: str) -> set[str]:
    return {module for module, names in IMPORTS.items() if any(below(name, package) for name in names)}


TORCH = {"torch", "transformers", "bitsandbytes", "accelerate", "mistral_common", "huggingface_hub"}


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        (
            "llmlat.measure",
            {"llmlat.fit", "llmlat.report", "llmlat.tracking", "llmlat.pipeline", "sklearn"},
        ),
        (
            "llmlat.measure.endpoint",
            {
                "llmlat.measure.collect",
                "llmlat.measure.engines",
                "llmlat.measure.machine.environment",
                "llmlat.measure.models.load",
                "llmlat.measure.plan",
                "llmlat.measure.telemetry",
                "llmlat.measure.timers",
                *TORCH,
            },
        ),
        ("llmlat.fit", {"llmlat.measure", "llmlat.report", "llmlat.tracking", "llmlat.pipeline", *TORCH}),
        (
            "llmlat.report",
            {
                "llmlat.measure",
                "llmlat.fit",
                "llmlat.tracking",
                "llmlat.pipeline",
                "sklearn",
                "wandb",
                *TORCH,
            },
        ),
        (
            "llmlat.sweep",
            {
                "llmlat.measure",
                "llmlat.fit",
                "llmlat.tracking",
                "llmlat.pipeline",
                "sklearn",
                "wandb",
                *TORCH,
            },
        ),
        ("llmlat.tracking", {"llmlat.measure", "llmlat.fit", "llmlat.pipeline", "sklearn", *TORCH}),
        (
            "llmlat.publish",
            {"llmlat.measure", "llmlat.tracking", "llmlat.pipeline", "sklearn", "wandb", *TORCH},
        ),
        ("llmlat.records", {"llmlat"}),
        (
            "llmlat.dataset",
            {"llmlat.measure", "llmlat.fit", "llmlat.report", "llmlat.tracking", "llmlat.config"},
        ),
        (
            "llmlat.config",
            {"llmlat.measure", "llmlat.fit", "llmlat.report", "llmlat.tracking", "llmlat.dataset"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_who_may_not_import_whom(room: str, forbidden: set[str]) -> None:
    assert any(below(module, room) for module in IMPORTS), f"there is no {room}"
    assert offenders(room, forbidden) == []


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        *[(package, ["llmlat.measure"]) for package in sorted(TORCH)],
        ("wandb", ["llmlat.tracking"]),
        ("wandb_workspaces", ["llmlat.tracking"]),
        (
            "pyarrow",
            [
                "llmlat.dataset",
                "llmlat.records",
                "llmlat.sources.large",
                "llmlat.sources.table",
                "llmlat.sources.table_file",
                "llmlat.sources.table_types",
            ],
        ),
        ("sklearn", ["llmlat.fit"]),
        ("joblib", []),
        ("matplotlib", ["llmlat.report", "llmlat.sweep", "llmlat.tracking", "llmlat.publish"]),
        ("jinja2", ["llmlat.report", "llmlat.sweep", "llmlat.measure", "llmlat.publish"]),
        ("pynvml", ["llmlat.measure"]),
        ("httpcore", ["llmlat.measure.endpoint"]),
        ("tenacity", ["llmlat.measure.endpoint"]),
        ("llmlat.pipeline", ["llmlat.__main__"]),
    ],
)
def test_who_alone_may_import(package: str, rooms: list[str]) -> None:
    strangers = {module for module in importers(package) if not any(below(module, room) for room in rooms)}
    assert strangers == set()


def test_no_dictconfig_goes_below_the_edge() -> None:
    edge = {"llmlat.config", "llmlat.__main__", "llmlat.jobs.edge"}
    assert importers("omegaconf") <= edge | {"llmlat.sources.datasets", "llmlat.config_errors"}
    assert importers("omegaconf.DictConfig") <= edge


def test_imports_are_found_wherever_they_stand() -> None:
    source = """
import a.b
from ..c import d
from . import e
def f():
    from g import h
    if True:
        import i
class J:
    k = __import__("k")
"""
    found = set(imports(source, "llmlat.x.y"))
    assert found == {"a.b", "llmlat.c.d", "llmlat.x.e", "g.h", "i", "k"}
    assert set(imports("from .m import n", "llmlat.x", is_package=True)) == {"llmlat.x.m.n"}


def test_the_public_names_are_what_is_exported() -> None:
    exported = {
        name
        for name, value in vars(llmlat).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert exported == set(llmlat.__all__)
    assert all(inspect.getdoc(getattr(llmlat, name)) for name in llmlat.__all__)
    assert llmlat.__version__


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE_DIR)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
