"""Takes the pictures of docs/pages.md: a private server, real jobs, a real browser. ``make screenshots`` runs it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect
from tests.browser import Visitor, opened_browser
from tests.grpc_client import Api
from tests.live import LiveServer, live_server
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

IMAGES = Path(__file__).parent.parent / "docs" / "images"
TRAIN = b"""import sys, time
rate, epochs = float(sys.argv[1]), int(sys.argv[2])
data = bytearray(64 << 20)
for epoch in range(epochs):
    until = time.monotonic() + 0.4 + 0.3 * (epoch % 3)
    while time.monotonic() < until:
        sum(i * i for i in range(20_000))
    data.extend(bytes(4 << 20))
    with open("checkpoint.bin", "wb") as file:
        file.write(data[: 8 << 20])
    print(f"epoch {epoch + 1:2}  loss {2.3 * 0.8 ** epoch + 0.05:.4f}  rate {rate}", flush=True)
    if epoch == 2:
        print("validation loss went up: 1.4871 -> 1.4902", file=sys.stderr, flush=True)
    time.sleep(0.3)
print("saved checkpoint.bin")
"""
FAILING = "python3 -c 'import torch_not_installed'"


def main() -> None:
    """Take them all."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, live_server(Path(folder) / "data") as server:
        api = Api.of(server)
        _take(server, api)
        api.close()


def _take(server: LiveServer, api: Api) -> None:
    project = server.client().project
    done = _train(api, project, "train", rate="0.1", epochs="6")
    failed = _execute(api, api.create(project, FAILING, name="evaluate"))
    api.wait(failed)
    api.wait(done)
    fork = _fork(api, done)
    for number in range(4):
        _execute(api, api.create(project, "sleep 600", name=f"sweep {number + 1}"))
    base = f"http://127.0.0.1:{server.ports['http']}"
    with opened_browser() as browser:
        page = _visit(browser, base, height=1200, color_scheme="dark")
        page.page.goto(f"/jobs/{fork}")
        expect(page.page.get_by_role("log")).to_contain_text("epoch  9", timeout=60_000)
        page.page.screenshot(path=IMAGES / "job-dark.png")
        phone = _visit(browser, base, width=390, height=800, color_scheme="light")
        phone.page.goto(f"/jobs/{failed}")
        expect(phone.page.locator("#log-state")).to_have_text("complete")
        phone.page.screenshot(path=IMAGES / "failed-phone.png")
        light = _visit(browser, base, height=560)
        for name, path in (("jobs", f"/projects/{project}"), ("queue", "/queue"), ("audit", "/audit")):
            light.page.goto(path)
            light.page.screenshot(path=IMAGES / f"{name}.png")
        light.page.goto(f"/jobs/{done}/fork")
        light.page.screenshot(path=IMAGES / "fork.png")
    sys.stdout.write(f"{len(list(IMAGES.glob('*.png')))} pictures in {IMAGES}\n")


def _visit(browser: Browser, base: str, width: int = 1100, height: int = 700, **context: Any) -> Visitor:
    return Visitor(browser, base, viewport={"width": width, "height": height}, **context)


def _train(api: Api, project: str, name: str, rate: str, epochs: str) -> str:
    return _execute(
        api,
        api.create(
            project,
            "python3 train.py ${RATE} ${EPOCHS}",
            {"train.py": TRAIN},
            name=name,
            output_files=[pb.FileDesc(path="checkpoint.bin")],
            arguments=[pb.Argument(name="RATE", value=rate), pb.Argument(name="EPOCHS", value=epochs)],
        ),
    )


def _fork(api: Api, job_id: str) -> str:
    from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb

    overrides = pb.JobParameters(arguments=[pb.Argument(name="EPOCHS", value="14")])
    request = service_pb.CloneProjectJobRequest(
        source_job_id=job_id, job_parameters_overrides=overrides, name="train longer"
    )
    response = service_pb.CloneProjectJobResponse()
    api.call(api.jobs.Clone, request).response.Unpack(response)
    return _execute(api, response.job_id)


def _execute(api: Api, job_id: str) -> str:
    api.execute(job_id)
    return job_id


if __name__ == "__main__":
    main()
