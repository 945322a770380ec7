"""Opens JupyterLab like a user, with a fresh browser profile, and measures the waiting times.

    launcher.py URL --file PATH [--tries N]

URL is the one that JupyterLab prints, with the token. PATH is a large file in the folder that it shows. On success it prints
one line of JSON: seconds until the launcher is usable, milliseconds from Enter to the output of `1+1` (when idle, and while
the file is downloaded), and the download rate in Mbit/s.
"""

import argparse
import json
import time

from playwright.sync_api import expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
NOTEBOOK = ".jp-NotebookPanel:not(.lm-mod-hidden)"
PATIENCE = 120_000

DOWNLOAD = """path => {
    const token = document.cookie.split('; ').find(one => one.startsWith('_xsrf='));
    const headers = token ? {'X-XSRFToken': token.slice(6)} : {};
    window.arrived = 0;
    window.failed = '';
    fetch('/files/' + path, {headers}).then(async answer => {
        if (!answer.ok) throw new Error('status ' + answer.status);
        const reader = answer.body.getReader();
        for (;;) {
            const {done, value} = await reader.read();
            if (done) break;
            window.arrived += value.length;
        }
        window.failed = 'it ended during the measurement';
    }).catch(error => { window.failed = String(error); });
}"""


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--file", required=True)
    parser.add_argument("--tries", type=int, default=15)
    return parser.parse_args()


def open_launcher(page, url):
    page.goto(url, wait_until="commit")
    # JupyterLab reopens earlier notebooks; then it does not show the launcher by itself.
    page.locator(f".jp-Launcher, {NOTEBOOK}").first.wait_for()
    if page.locator(".jp-Launcher").count() == 0:
        page.get_by_role("button", name="New Launcher").first.click()
    page.locator('.jp-LauncherCard[data-category="Notebook"]').first.wait_for()


def new_notebook(page):
    """Opens a notebook and runs its first cell, which takes longer than the following ones."""
    page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    page.locator(f"{NOTEBOOK} .cm-content").first.wait_for()
    expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle")
    one_and_one(page)


def one_and_one(page):
    """Milliseconds from Enter to the output."""
    cells = page.locator(f"{NOTEBOOK} .jp-CodeCell")
    expect(cells.last.locator(".cm-content")).to_have_text("")
    count = cells.count()
    cell = cells.nth(count - 1)
    editor = cell.locator(".cm-content")
    editor.click()
    page.keyboard.insert_text("1+1")
    expect(editor).to_have_text("1+1")
    start = time.monotonic()
    page.keyboard.press("Shift+Enter")
    cell.locator(".jp-OutputArea-output").wait_for()
    took = (time.monotonic() - start) * 1000
    expect(cell.locator(".jp-OutputArea-output")).to_contain_text("2")
    expect(cells).to_have_count(count + 1)
    return took


def main():
    args = arguments()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        start = time.monotonic()
        open_launcher(page, args.url)
        launcher = time.monotonic() - start
        new_notebook(page)
        idle = [one_and_one(page) for _ in range(args.tries)]
        # A second notebook in a reloaded JupyterLab, because each additional cell makes a notebook slower.
        open_launcher(page, args.url + "&reset")
        new_notebook(page)
        page.evaluate(DOWNLOAD, args.file)
        page.wait_for_function("() => window.arrived > 1e6 || window.failed")
        start, before = time.monotonic(), page.evaluate("() => window.arrived")
        loaded = [one_and_one(page) for _ in range(args.tries)]
        passed, after = time.monotonic() - start, page.evaluate("() => window.arrived")
        failed = page.evaluate("() => window.failed")
        assert not failed, f"the download: {failed}"
        browser.close()
    print(json.dumps({"launcher": launcher, "idle": idle, "loaded": loaded, "mbit": (after - before) * 8e-6 / passed}))


main()
