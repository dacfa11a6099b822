"""The built wheel contains the whole service."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.running import ROOT, environment


def test_wheel_installed_elsewhere_migrates_and_loads_the_demo(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [
        *pip,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for part in (
        "sql/schema.sql",
        "sql/migrations/0001_accounts_to_answers.sql",
        "templates/pages/base.html",
        "templates/mail/letter.html",
        "static/pages.css",
        "guides/buyers.md",
    ):
        assert f"service/{part}" in names
    assert not [name for name in names if name.startswith(("tests", "sql/"))]

    installed = tmp_path / "installed"
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(installed), str(wheel)], check=True
    )
    # The installed copy comes before the checkout, whose dependencies serve both.
    env = {**environment(tmp_path / "state"), "PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-c", "import service; print(service.__file__)"],
        env=env, cwd=tmp_path, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert where.startswith(str(installed) + os.sep)
    demo = subprocess.run(
        [installed / "bin" / "confirmed-owner", "demo"],
        env=env,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    ).stdout
    assert "Who sees what" in demo.decode()
