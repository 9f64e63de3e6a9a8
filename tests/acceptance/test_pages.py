"""The pages in a real browser, on a real server with real jobs."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, expect
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

from jobsphere.desk import Desk, read
from jobsphere.domain.access import Scope
from jobsphere.domain.accounts import AccountKind
from jobsphere.domain.resource import Subject
from jobsphere.service.grants import Grant
from jobsphere.wiring import issue_token
from tests.browser import LIMIT_MS, Visitor, chromium, opened_browser
from tests.grpc_client import Api
from tests.live import Client, LiveServer, live_server, wait_for

pytestmark = pytest.mark.skipif(chromium() is None, reason="chromium is not installed")
expect.set_options(timeout=LIMIT_MS)
Open = Callable[..., Visitor]

TRAIN = b"""import sys, time
rate = sys.argv[1]
for step in range(30):
    print(f"step {step} rate {rate}", flush=True)
    time.sleep(0.05)
print("a warning", file=sys.stderr)
open("model.txt", "w").write(f"trained with {rate}")
"""
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as running:
        yield running


@dataclass(frozen=True)
class Guarded:
    """A server where people sign in: the operator, and vera, who may look."""

    server: LiveServer
    project: str
    operator: str
    vera: str


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with live_server(tmp_path_factory.mktemp("guarded") / "data", "--require-tokens") as running:
        folder = running.data_dir
        with ThreadPoolExecutor() as beside:  # the browser's driver has a loop in this thread
            project, vera = beside.submit(asyncio.run, read(folder, _with_vera)).result()
        yield Guarded(running, project, issue_token(folder, timedelta(hours=1)), vera)


async def _with_vera(desk: Desk, who: Subject) -> tuple[str, str]:
    project = (await desk.projects.ensure_default(who)).id
    vera = await desk.accounts.add(who, "vera", AccountKind.USER)
    await desk.grants.update(who, Scope.PROJECT, project, [Grant("viewer", vera.id, "userAccount")], [])
    _, token = await desk.accounts.create_token(who, vera.id, "browser", timedelta(hours=1))
    return project, token


@pytest.fixture
def visit(browser: Browser, server: LiveServer) -> Iterator[Open]:
    visitors: list[Visitor] = []

    def opened(base: str = "", **context: object) -> Visitor:
        visitors.append(Visitor(browser, base or f"http://127.0.0.1:{server.ports['http']}", **context))
        return visitors[-1]

    yield opened
    for visitor in visitors:
        visitor.close()


@pytest.fixture(scope="module")
def api(server: LiveServer) -> Iterator[Api]:
    api = Api.of(server)
    yield api
    api.close()


def submitted(api: Api, project: str, name: str, cmd: str, **more: object) -> str:
    """A running job of that name."""
    job_id = api.create(project, cmd, name=name, **more)
    api.execute(job_id)
    return job_id


def status(page: Page) -> object:
    return page.locator(".headline .status")


def test_a_job_is_watched_forked_and_deleted(visit: Open, api: Api, client: Client) -> None:
    project = client.project
    train = {"train.py": TRAIN}
    outputs = [pb.FileDesc(path="model.txt")]
    arguments = [pb.Argument(name="RATE", value="0.1")]
    cmd = "python3 train.py ${RATE}"
    api.execute(job_id := api.create(project, cmd, train, output_files=outputs, arguments=arguments, name="train"))
    page = visit().page
    page.goto(f"/projects/{project}")
    page.get_by_role("link", name="train", exact=True).first.click()

    # All of it comes without a reload.
    page.evaluate("window.sameDocument = true")
    expect(page.get_by_role("log")).to_contain_text("step 3 rate 0.1")
    expect(status(page)).to_have_text("Success")
    expect(page.locator("#log-state")).to_have_text("complete")
    assert page.evaluate("window.sameDocument") is True
    assert page.locator("#lines div.err").all_inner_texts() == ["a warning"]
    page.get_by_label("Find").fill("STEP 29")
    assert page.locator("#lines div").all_inner_texts() == ["step 29 rate 0.1"]
    assert page.locator("#lines mark").inner_text() == "step 29"
    page.get_by_label("Find").fill("")
    page.get_by_label("stdout").uncheck()
    assert page.locator("#lines div").all_inner_texts() == ["a warning"]
    expect(page.get_by_role("img", name=re.compile("^CPU: now"))).to_be_visible()

    with page.expect_download() as saved:
        page.get_by_role("link", name="model.txt").click()
    assert Path(saved.value.path()).read_text() == "trained with 0.1"
    with page.expect_download() as saved:
        page.get_by_role("link", name="stdout", exact=True).click()
    assert Path(saved.value.path()).read_text().startswith("step 0 rate 0.1\nstep 1 ")

    page.get_by_role("link", name="Fork…").click()
    page.get_by_label("Argument RATE").fill("0.5")
    page.get_by_label("Name").fill("train again")
    page.get_by_role("button", name="Fork and execute").click()
    expect(page.get_by_role("heading", name="train again")).to_be_visible()
    expect(status(page)).to_have_text("Success")
    with page.expect_download() as saved:
        page.get_by_role("link", name="model.txt").click()
    assert Path(saved.value.path()).read_text() == "trained with 0.5"
    page.locator(".tree").get_by_role("link", name="train").click()
    expect(page.locator(".tree").get_by_role("link", name="train again")).to_be_visible()
    assert page.url.endswith(job_id)

    page.locator("#delete summary").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("heading", name="default")).to_be_visible()
    assert page.locator(f"#job-{job_id}").count() == 0


def test_jobs_are_cancelled_at_once_and_gracefully(visit: Open, api: Api, client: Client) -> None:
    page = visit().page
    at_once = submitted(api, client.project, "cancel me", "sleep 600")
    page.goto(f"/jobs/{at_once}")
    expect(status(page)).to_have_text("Executing")
    page.get_by_role("button", name="Cancel at once").click()
    expect(status(page)).to_have_text("Cancelled")

    handler = "trap 'echo leaving; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    gracefully = submitted(
        api, client.project, "leave", f'bash -c "{handler}"', graceful_shutdown_parameters={"signal": 15}
    )
    page.goto(f"/jobs/{gracefully}")
    expect(page.get_by_role("log")).to_contain_text("ready")
    page.get_by_role("button", name="Cancel gracefully").click()
    expect(status(page)).to_have_text("Cancelled")
    expect(page.get_by_role("log")).to_contain_text("leaving")


COUNT = 'python3 -c "import time; [(print(n, flush=True), time.sleep(0.01)) for n in range(400)]"'
HIDE = """seen => {
    Object.defineProperty(document, "visibilityState", { value: seen, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_the_log_goes_on_where_it_was_after_a_pause_and_a_restart(visit: Open, guarded: Guarded) -> None:
    server, token = guarded.server, guarded.operator
    ports = server.ports
    with closing(Api(ports["grpc"], server.data_dir / "tls" / "ca.pem", token)) as api:
        job = submitted(api, guarded.project, "count", COUNT)
    visitor = visit(f"http://127.0.0.1:{ports['http']}")
    visitor.context.add_cookies([{"name": "jobsphere_session", "value": token, "url": visitor.base}])
    page = visitor.page
    page.goto(f"/jobs/{job}")
    expect(page.get_by_role("log")).to_contain_text("5")
    page.evaluate(HIDE, "hidden")
    page.evaluate(HIDE, "visible")
    server.stop()
    server.start(ports)
    expect(page.locator("#log-state")).to_have_text("complete")
    assert page.locator("#lines div.out").all_inner_texts() == [str(n) for n in range(400)]
    expect(status(page)).to_have_text("Success")
    visitor.faults = [f for f in visitor.faults if "net::ERR_" not in f]


def test_jobs_are_searched_filtered_and_found_by_a_link(visit: Open, api: Api, client: Client) -> None:
    failed = submitted(api, client.project, "Сломанное", "exit 3")
    api.wait(failed)
    page = visit().page
    page.goto(f"/projects/{client.project}")
    page.get_by_label("Search").fill("сломанн")
    page.get_by_label("Status").select_option("failed")
    page.get_by_role("button", name="Show").click()
    row = page.locator("tbody tr", has=page.locator(f"#job-{failed}"))
    expect(row).to_contain_text("The program returned code 3")
    page.get_by_label("Status").select_option("done")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("No job fits")).to_be_visible()
    page.get_by_label("Search").fill(f"https://datasphere.yandex.cloud/communities/c/projects/p/job/{failed}")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("phase: run")).to_be_visible()


def test_what_a_job_says_is_only_ever_text(visit: Open, api: Api, client: Client) -> None:
    escapes = r"\033[2J\033]0;title\007\033[31mred\033[0m \342\200\256desrever\r\nold\rnew"
    job = submitted(
        api, client.project, HOSTILE, f"printf '%s\\n{escapes}\\n' '{HOSTILE}'; echo '{HOSTILE}' >&2; exit 1"
    )
    api.wait(job)
    visitor = visit()
    page = visitor.page
    for path in (f"/jobs/{job}", f"/projects/{client.project}", f"/jobs/{job}/fork", "/queue"):
        page.goto(path)
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("main script").count() == 0
    page.goto(f"/jobs/{job}")
    expect(page.locator("#log-state")).to_have_text("complete")
    lines = page.locator("#lines div.out").all_inner_texts()
    assert lines == [HOSTILE, "red \N{REPLACEMENT CHARACTER}desrever", "new"]
    assert page.locator("#lines div.err").all_inner_texts() == [HOSTILE]
    assert page.locator("h1").inner_text() == HOSTILE
    policy = page.goto(f"/jobs/{job}").header_value("content-security-policy")
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("how", ["large and light", "small and dark"])
def test_every_page_can_be_used_by_everybody(visit: Open, api: Api, client: Client, how: str) -> None:
    job = submitted(api, client.project, "seen by all", "echo hello; echo problem >&2; exit 1", arguments=[])
    api.wait(job)
    waiting = [submitted(api, client.project, f"in the queue {n}", "sleep 600") for n in range(5)]
    page = visit(**PHONE if how == "small and dark" else {}).page
    found: list[str] = []
    project = f"/projects/{client.project}"
    paths = ("/projects", project, f"{project}/resources", f"/jobs/{job}", f"/jobs/{waiting[0]}", f"/jobs/{job}/fork")
    for path in (*paths, "/queue", "/environments", "/audit", "/sign-in", "/nowhere"):
        page.goto(path)
        if path == f"/jobs/{job}":
            expect(page.locator("#log-state")).to_have_text("complete")
        for fault in Axe().run(page).response["violations"]:
            found += [
                f"{path}: {fault['id']} ({fault['impact']}) {n['target']} {n['html'][:120]}" for n in fault["nodes"]
            ]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{path}: wider than the screen")
    for job_id in waiting:
        api.cancel(job_id)
    assert not found, "\n".join(found)


def test_the_keyboard_is_enough(visit: Open, api: Api, client: Client) -> None:
    job = submitted(api, client.project, "by keyboard", "sleep 600")
    page = visit().page
    page.goto(f"/jobs/{job}")
    expect(status(page)).to_have_text("Executing")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "do-cancel":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(status(page)).to_have_text("Cancelled")


def test_the_link_that_the_cli_prints_opens_the_job(
    server: LiveServer, client: Client, browser: Browser, example: Callable[[str], Path]
) -> None:
    words = client.run("project", "job", "execute", "-p", client.project, "-c", "config.yaml", cwd=example("bash"))
    link = re.search(r"job link: (https://[!-~]+)", words)
    assert link
    proxy = {"server": f"http://127.0.0.1:{server.ports['proxy']}", "bypass": "127.0.0.1"}
    context = browser.new_context(proxy=proxy, ignore_https_errors=True)
    page = context.new_page()
    # The proxy closes a connection whose request does not come in time, as on a busy machine a browser's may.
    wait_for(lambda: goes_to(page, link[1]), "the link leads somewhere")
    expect(status(page)).to_have_text("Success")
    assert page.url == f"http://127.0.0.1:{server.ports['http']}/jobs/{link[1].rpartition('/')[2]}"
    context.close()


def goes_to(page: Page, url: str) -> bool:
    """Whether the browser got an answer."""
    try:
        return page.goto(url) is not None
    except Error:
        return False


def test_people_sign_in_and_see_what_is_theirs(visit: Open, guarded: Guarded) -> None:
    resources = f"/projects/{guarded.project}/resources"
    visitor = visit(f"http://127.0.0.1:{guarded.server.ports['http']}")
    page = visitor.page
    page.goto(resources)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Your token").fill("jsp_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("wrong or was revoked")
    page.get_by_label("Your token").fill(guarded.operator)
    page.keyboard.press("Enter")
    page.get_by_label("Name").fill("API_KEY")
    page.get_by_label("Value").fill("hidden-value")
    page.get_by_role("button", name="Set the secret").click()
    expect(page.get_by_role("rowheader", name="API_KEY")).to_be_visible()
    assert "hidden-value" not in page.content()
    cookies = {c["name"]: c for c in visitor.context.cookies()}
    assert cookies["jobsphere_session"]["httpOnly"]
    assert cookies["jobsphere_session"]["sameSite"] == "Lax"
    page.get_by_role("button", name="Sign out").click()
    page.goto("/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()

    page.get_by_label("Your token").fill(guarded.vera)
    page.keyboard.press("Enter")
    expect(page.get_by_text("vera")).to_be_visible()
    assert page.get_by_role("link", name="Audit").count() == 0
    page.goto("/audit")
    expect(page.get_by_role("alert")).to_contain_text("only the operator")
    page.goto(resources)
    page.get_by_role("button", name="Delete the secret API_KEY").click()
    expect(page.get_by_role("alert")).to_contain_text("you may not")
    with closing(sqlite3.connect(f"file:{guarded.server.data_dir / 'jobsphere.db'}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT subject_name, action, result FROM audit WHERE action LIKE 'secret %'"
        ).fetchall()
    assert rows == [(rows[0][0], "secret set", "OK"), ("vera", "secret delete", "PERMISSION_DENIED")]
