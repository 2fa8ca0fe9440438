"""The estimate of the images' sizes: every package that is required counts once, what is missing is named."""

from __future__ import annotations

import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from scripts.image_sizes import IMAGES, estimate, installed_bytes, main, needed, wheel_requirements
from tests.support.manifests import image_stages


def wheel(folder: Path, name: str, size: int, *needs: str) -> Path:
    """A wheel with one file of so many bytes, beside its metadata."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", *(f"Requires-Dist: {need}" for need in needs), "", "Text"]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}/data.bin", bytes(size))
        file.writestr(f"{name}-1.0.dist-info/METADATA", "\n".join(lines))
    return path


def test_wheels_count_with_all_that_they_need_and_each_once(tmp_path: Path) -> None:
    files = [wheel(tmp_path, "glad_a", 2_000_000, "glad-b>=1", "glad-none"), wheel(tmp_path, "glad_b", 3_000_000)]
    found = estimate("worker", ["glad-a", "glad_b"], tmp_path)
    described = sum(info.file_size for path in files for info in zipfile.ZipFile(path).infolist()) - 5_000_000
    assert found.megabytes == pytest.approx(5 + described / 1e6)
    assert (found.packages, found.missing) == (2, ("glad-none",))


def test_an_installed_package_counts_with_its_files_but_no_compiled_python() -> None:
    found = metadata.distribution("typer")
    assert found.files is not None
    files = [Path(str(file.locate())) for file in found.files]
    sources = sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc")
    assert installed_bytes(found) == sources > 10_000


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("Foo_Bar[extra]>=1.2", ["foo-bar"]),
        ("tomli; python_version < '3.11'", []),
        ("colorama; platform_system == 'Windows'", []),
        ("pytest; extra == 'test'", []),
        ("uvloop>=0.15; sys_platform != 'cygwin'", ["uvloop"]),
        ("httpcore2==2.16.2; sys_platform != 'emscripten'", ["httpcore2"]),
        ("jsfetch; sys_platform == 'emscripten' and python_version >= '3.12'", []),
        ("typing-extensions>=4.5; python_version < '3.13'", ["typing-extensions"]),
    ],
)
def test_what_another_system_python_or_extra_needs_does_not_count(line: str, names: list[str]) -> None:
    assert list(needed(line)) == names


def test_a_wheels_requirements_are_read_from_its_head_alone(tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel(tmp_path, "glad_a", 1, "b>=1; extra == 'x'")) as file:
        assert wheel_requirements(file) == ["b>=1; extra == 'x'"]


def test_the_estimated_images_have_the_extras_of_the_real_ones() -> None:
    for image, extras in IMAGES.items():
        assert f"requirements.py {' '.join(extras)} >" in image_stages()[f"build-{image}"]


def test_each_image_has_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--wheels", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(IMAGES)
    assert all("estimated, not built" in line for line in lines)
    assert "at least, without" in next(line for line in lines if line.startswith("worker "))  # tensorrt is nowhere here
