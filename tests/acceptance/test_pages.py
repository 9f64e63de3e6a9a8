"""The pages in a real browser, on a real server with real jobs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, expect
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

from tests.browser import LIMIT_MS, Visitor, chromium, opened_browser
from tests.grpc_client import Api
from tests.live import BIN, HANG_S, Client, LiveServer, live_server, wait_for

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


def jobsphere(server: LiveServer, *args: str) -> str:
    """One of the operator's commands."""
    command = [BIN / "jobsphere", *args, "--data-dir", server.data_dir]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANG_S).stdout


def test_people_sign_in_and_see_what_is_theirs(visit: Open, tmp_path: Path) -> None:
    with live_server(tmp_path / "data", "--require-tokens") as server:
        base = f"http://127.0.0.1:{server.ports['http']}"
        operator = server.client()
        roles = "{default: {projects: {default: {roles: {vera: viewer}}}}}"
        (tmp_path / "team.yaml").write_text(f"users: {{vera: {{}}}}\ncommunities: {roles}\n")
        jobsphere(server, "apply", "-f", str(tmp_path / "team.yaml"))
        token = jobsphere(server, "token", "create", "vera", "--name", "browser").split()[-1]
        secret = f"/projects/{operator.project}/resources"

        visitor = visit(base)
        page = visitor.page
        page.goto(secret)
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.get_by_label("Your token").fill("jsp_wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("wrong or was revoked")
        page.get_by_label("Your token").fill(operator.exports["YC_IAM_TOKEN"])
        page.keyboard.press("Enter")
        page.get_by_label("Name").fill("API_KEY")
        page.get_by_label("Value").fill("hidden-value")
        page.get_by_role("button", name="Set the secret").click()
        expect(page.get_by_role("rowheader", name="API_KEY")).to_be_visible()
        assert "hidden-value" not in page.content()
        page.goto("/audit")
        expect(page.get_by_role("rowheader", name="secret set")).to_be_visible()
        cookies = {c["name"]: c for c in visitor.context.cookies()}
        assert cookies["jobsphere_session"]["httpOnly"]
        assert cookies["jobsphere_session"]["sameSite"] == "Lax"
        page.get_by_role("button", name="Sign out").click()
        page.goto("/")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()

        page.get_by_label("Your token").fill(token)
        page.keyboard.press("Enter")
        expect(page.get_by_text("vera")).to_be_visible()
        assert page.get_by_role("link", name="Audit").count() == 0
        page.goto("/audit")
        expect(page.get_by_role("alert")).to_contain_text("only the operator")
        page.goto(secret)
        page.get_by_role("button", name="Delete the secret API_KEY").click()
        expect(page.get_by_role("alert")).to_contain_text("you may not")
        assert "PERMISSION_DENIED" in jobsphere(server, "audit")
