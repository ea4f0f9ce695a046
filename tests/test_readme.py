"""The README's code blocks run, and its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_blocks_run(number, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", BLOCKS[number]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout
    expected = {
        "copier": "FLAGGED",
        "optimal_logit": "∞",
    }
    for marker, word in expected.items():
        if marker in BLOCKS[number]:
            assert word in run.stdout


def test_pictures_and_files_exist():
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).is_file(), path


def test_commands_of_the_shell_blocks_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for module in re.findall(r"python -m (\w+)", README):
        if module not in ("venv", "pytest"):
            assert (ROOT / module / "__main__.py").is_file(), module


def test_the_audit_commands_of_the_readme_work(tmp_path):
    run = lambda *command: subprocess.run(  # noqa: E731
        [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False, env=None
    )
    small = ["--members", "2", "--steps", "10", "--width", "8", "--train-size", "300", "--samples", "300"]
    trained = run("toygen", "grid", *small, "--out", "runs/grid")
    assert trained.returncode == 0, trained.stderr
    files = [f"runs/grid/{name}.npz" for name in ("generated", "train", "test", "modes")]
    audited = run(
        "evaluation", files[0], "--train", files[1], "--test", files[2], "--modes", files[3], "--html", "report.html"
    )
    assert audited.returncode == 1, audited.stderr
    assert (tmp_path / "report.html").is_file()
