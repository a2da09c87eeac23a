"""Who may import whom (the layers in pyproject.toml, and the rules below), and importing does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PACKAGES = ("textremove", "jobs", "serve")

# A third-party package, and the only places of ours that may import it, at any depth of a file.
HOMES = {
    "ray": ("textremove/onray/", "jobs/", "serve/"),
    "mlflow": ("textremove/onray/", "jobs/", "serve/"),
    "diffusers": ("textremove/inpaint/",),
    "peft": ("textremove/inpaint/",),
    "fastapi": ("serve/",),
    "jinja2": ("textremove/report/",),
    "matplotlib": ("textremove/report/",),
    "tyro": ("textremove/cli.py", "jobs/", "serve/"),
}

# Calls that reach outside the process or build something heavy; none may run while a module is imported.
FORBIDDEN_CALLS = {
    "open", "print", "mkdir", "makedirs", "getenv", "write_text", "write_bytes", "read_text", "read_bytes",
    "from_pretrained", "init", "set_tracking_uri", "set_experiment", "load_file", "urlopen", "run", "Popen",
    "manual_seed", "basicConfig",
}  # fmt: skip


def our_files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (REPO / package).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


def imported_packages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields (line, top-level package) of every import, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0]


def run_on_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Yields every node that executes when the module is imported: not what waits inside functions."""
    pending: list[ast.AST] = [node for node in tree.body if not is_main_guard(node)]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending.extend([*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)])
        elif not isinstance(node, ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))


def is_main_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def side_effects(tree: ast.Module) -> list[str]:
    """Lists what a module would do on import beyond defining names."""
    found = []
    for node in run_on_import(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in FORBIDDEN_CALLS:
                found.append(f"line {node.lineno}: calls {name}()")
        elif isinstance(node, ast.Attribute) and node.attr == "environ":
            found.append(f"line {node.lineno}: touches the environment")
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant):
            found.append(f"line {statement.lineno}: a bare call at the top of a module")
    return found


def python(code: str, cwd: Path) -> str:
    """Runs code in a fresh interpreter and returns what it printed."""
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_contracts_of_import_linter_hold() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", sorted(HOMES))
def test_package_is_imported_only_at_home(package: str) -> None:
    strays = [
        f"{relative(path)}:{line}"
        for path in our_files()
        for line, name in imported_packages(ast.parse(path.read_text("utf-8")))
        if name == package and not relative(path).startswith(HOMES[package])
    ]
    assert strays == []


@pytest.mark.parametrize("path", our_files(), ids=relative)
def test_importing_does_nothing(path: Path) -> None:
    assert side_effects(ast.parse(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import os\nHOME = os.environ['HOME']",
        "import os\nHOME = os.getenv('HOME')",
        "from pathlib import Path\nPath('runs').mkdir()",
        "import ray\nray.init()",
        "class A:\n    text = open('x').read()",
        "def f(a=open('x')):\n    return a",
        "setup()",
    ],
)
def test_a_module_that_acts_on_import_is_caught(source: str) -> None:
    assert side_effects(ast.parse(source))


def test_a_module_that_only_defines_is_let_through() -> None:
    source = '"""Doc."""\nimport os\nN = int("3")\ndef f():\n    return os.environ["A"], open("x")\n'
    assert side_effects(ast.parse(source + 'if __name__ == "__main__":\n    f()\n')) == []


@pytest.mark.slow
def test_importing_everything_leaves_no_trace(tmp_path: Path) -> None:
    names = [
        relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in our_files()
    ]
    code = f"""
import importlib, os
import cv2, diffusers, matplotlib, mlflow, peft, ray.data, ray.serve, ray.train, torchvision, transformers
theirs = dict(os.environ)
for name in {names!r}:
    importlib.import_module(name)
assert not ray.is_initialized(), "importing started Ray"
assert dict(os.environ) == theirs, "importing changed the environment"
"""
    python(code, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_import_textremove_is_light(tmp_path: Path) -> None:
    code = "import sys, textremove; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(python(code, tmp_path).split())
    assert loaded.isdisjoint({"ray", "mlflow", "diffusers", "peft", "torch", "transformers", "fastapi"})


def test_import_textremove_is_quick(tmp_path: Path) -> None:
    code = """
import time, numpy, PIL.Image
start = time.perf_counter()
import textremove
print(time.perf_counter() - start)
"""
    # The best of several: a busy machine can only make an import look slower than it is.
    seconds = min(float(python(code, tmp_path)) for _ in range(5))
    assert seconds < 0.3
