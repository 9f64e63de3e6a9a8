"""What CUDA is told of a job's GPUs."""

from __future__ import annotations

from pathlib import Path

from jobsphere.machine import gpus_of
from jobsphere.runner.gpus import visible_gpus
from jobsphere.runner.stats import gpu_command


def a_driver(folder: Path) -> str:
    for minor, uuid in ((0, "GPU-aaaa"), (1, "GPU-bbbb")):
        (entry := folder / f"0000:0{minor}:00.0").mkdir()
        (entry / "information").write_text(f"Model: \t\t NVIDIA A100\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n")
    return str(folder)


def test_gpus_are_named_by_uuid_where_the_driver_tells_it_and_by_index_elsewhere(tmp_path: Path) -> None:
    assert visible_gpus((1,), a_driver(tmp_path)) == "GPU-bbbb"
    assert visible_gpus((0, 2), str(tmp_path)) == "GPU-aaaa,2"
    assert visible_gpus((3,), str(tmp_path / "none")) == "3"


def test_a_job_without_gpus_sees_none(tmp_path: Path) -> None:
    assert visible_gpus((), a_driver(tmp_path)) == ""


def test_gpus_of_a_machine_are_found_by_their_device_nodes(tmp_path: Path) -> None:
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()

    assert gpus_of(tmp_path) == (2, 10)


def test_the_table_of_gpus_is_of_the_job_s_own(tmp_path: Path, monkeypatch) -> None:
    (program := tmp_path / "nvidia-smi").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert gpu_command((1, 2))[:2] == [str(program), "--id=1,2"]  # type: ignore[index]
    assert gpu_command(()) is None
    assert "--id" not in " ".join(gpu_command(None) or ())
