"""What a program leaves for output datasets: collected whole, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from supervisors import Node, open_node

from jobsphere.domain.attempt import CollectedDataset
from jobsphere.domain.command import DatasetPlace
from jobsphere.domain.job import OutputDatasetDesc

PLACE = DatasetPlace(OutputDatasetDesc("model", "OUT", 1), "outputs/dataset-0")
LOCATIONS = (("OUT", PLACE.location),)


@pytest.fixture
async def node(tmp_path: Path):
    async with open_node(tmp_path / "data") as opened:
        yield opened


async def collected(
    node: Node, script: str, place: DatasetPlace = PLACE
) -> tuple[tuple[CollectedDataset, ...], list[str]]:
    seen = await node.run(script, datasets=(place,), locations=LOCATIONS)
    assert seen.collected
    return seen.collected.datasets, [error.description for error in seen.collected.errors]


async def test_the_folder_of_the_variable_goes_into_the_outbox(node: Node) -> None:
    script = "cd ${OUT} && mkdir -p a/b && echo x > a/b/f && echo yy > g && ln -s a/b/f l && chmod 000 a"
    datasets, errors = await collected(node, script)

    assert (datasets, errors) == ((CollectedDataset(0, PLACE.desc, "dataset-0", 5, 2),), [])
    content = node.at("outbox", "dataset-0")
    assert (content / "l").read_text() == "x\n"
    assert "Dataset 'model': 2 files, 5 B" in node.at("logs").read_bytes().decode(errors="replace")


async def test_an_empty_one_is_a_dataset_too(node: Node) -> None:
    datasets, errors = await collected(node, "true")
    assert ([d.files for d in datasets], errors) == ([0], [])


async def test_a_program_that_fails_makes_none(node: Node) -> None:
    assert await collected(node, "echo x > ${OUT}/f; exit 1") == ((), [])


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("ln -s /etc/passwd ${OUT}/l", "'l' is a link that leads out of it"),
        ("mkdir -p ${OUT}/a/b; ln -s .. ${OUT}/a/s; ln -s ../s/.. ${OUT}/a/b/l", "is a link that leads out of it"),
        ("mkfifo ${OUT}/f", "'f' is neither a file nor a folder"),
        ("rmdir ${OUT}; ln -s /etc ${OUT}", "something else in the place of its folder"),
        ("rmdir ${OUT}; echo > ${OUT}", "something else in the place of its folder"),
        ("d=${OUT}; for i in $(seq 300); do d=$d/d; done; mkdir -p $d", "more than 200 folders deep"),
        ("mv ${OUT} ../inputs/x 2>/dev/null || mv ${OUT} x; ln -s $PWD/x ${OUT}", "something else in the place"),
        ("truncate -s 2G ${OUT}/big", "2.0 GiB, while its size was given as 1.0 GiB"),
    ],
)
async def test_what_cannot_be_part_of_one_is_told(node: Node, script: str, words: str) -> None:
    datasets, errors = await collected(node, script)
    assert datasets == ()
    (error,) = errors
    assert words in error
    assert error.startswith("Output dataset 'model': ")
    assert error.endswith("; it was not made")


async def test_without_a_size_there_is_no_limit(node: Node) -> None:
    free = DatasetPlace(OutputDatasetDesc("model", "OUT"), PLACE.location)
    datasets, _ = await collected(node, "truncate -s 2G ${OUT}/big", free)
    assert [d.size_bytes for d in datasets] == [2 << 30]


async def test_collecting_goes_on_where_a_kill_came(node: Node) -> None:
    """Killed after the move and before the record: the folder is found in the outbox."""
    datasets, _ = await collected(node, "echo x > ${OUT}/f")
    node.at("collected").unlink()
    await node.runner.close()
    node.runner = node.new_runner()
    await node.observed("a1", lambda seen: not seen.alive)  # it writes the record just before it goes
    await node.runner.launch(node.plan("true"))
    seen = await node.end()
    assert seen.collected
    assert seen.collected.datasets == datasets
