"""What the documentation says is what the package does."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

import craters
from craters import write_dataset
from tests.conftest import REPOSITORY
from tests.docs.pages import DOCS, PAGES, blocks, commands_of
from tests.review.browser import browser, missing, requested

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def help_texts() -> dict[str, str]:
    before = dict(os.environ)
    try:
        return load("make_reference").help_texts()
    finally:  # the script settles how wide and how plain a terminal is
        os.environ.clear()
        os.environ.update(before)


def test_the_reference_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load("make_reference")
    monkeypatch.setattr(script, "help_texts", help_texts)
    for path, content in script.pages().items():
        assert path.read_text() == content, "run: python docs/make_reference.py"


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda path: path.name)
def test_the_first_sentence_of_a_page_says_whom_it_is_for(page: Path) -> None:
    paragraphs = page.read_text().split("\n\n")
    text = next(each for each in paragraphs[1:] if not each.startswith("!["))
    assert text.startswith("For ") or page.name == "index.md", text


def options_of(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_in_the_docs_exist_with_their_options(page: Path) -> None:
    known = help_texts()
    for line in commands_of(page.read_text()):
        words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
        name = " ".join(words[:2])
        if words[1].startswith("-"):
            name = "craters"
        elif len(words) > 2 and f"{name} {words[2]}" in known:
            name = f"{name} {words[2]}"
        assert name in known, line
        for option in options_of(words):
            assert re.search(rf"{re.escape(option)}\b", known[name]), line


def test_every_command_has_help_and_an_example() -> None:
    for name, text in help_texts().items():
        if "Commands:" not in text:
            assert re.search(r"Examples?:\n\s+(\w+=\S+ )?craters ", text), name


def test_every_page_and_notebook_is_in_the_site() -> None:
    config = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())

    def pages(items) -> list[str]:
        found = []
        for item in items:
            values = item.values() if isinstance(item, dict) else [item]
            for value in values:
                found += pages(value) if isinstance(value, list) else [value]
        return found

    assert sorted(pages(config["nav"])) == sorted(path.name for path in DOCS.glob("*.md"))
    text = (DOCS / "quickstart.md").read_text()
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        assert f"](notebooks/{path.name})" in text


def test_every_public_name_is_in_the_python_page() -> None:
    text = (DOCS / "api.md").read_text()
    for name in craters.__all__:
        if name != "__version__":
            assert re.search(rf"^::: craters\.[a-z_.]+\.{name}$", text, re.MULTILINE), name


def test_the_pages_that_state_the_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    text = (DOCS / "quickstart.md").read_text()
    for extra in set(project["optional-dependencies"]) - {"dev", "docs"}:
        assert f"`{extra}`" in text, extra


PYTHON_BLOCKS = {
    page.name: found
    for page in PAGES
    if (found := [block for language, block in blocks(page.read_text()) if language == "python"])
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to run documented Python in: small arrays."""
    write_dataset(tmp_path / "DATA", seed=3, n_labeled=80, n_unlabeled=20, n_test=20)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PYTHON_BLOCKS)
def test_python_in_the_docs_runs(page: str, folder: Path) -> None:
    """The blocks of a page run in turn; trainings are shortened to the original network's."""
    short = 'seed=3, method="supervised", network="original", initial_epochs=2)'
    for block in PYTHON_BLOCKS[page]:
        shortened = re.sub(r"(?<=RunConfig\()(.*)seed=3\)", rf"\1{short}", block)
        indented = re.sub("^", "    ", shortened, flags=re.MULTILINE)
        (folder / "block.py").write_text(f"if __name__ == '__main__':\n{indented}")
        found = subprocess.run(
            [sys.executable, "block.py"], cwd=folder, capture_output=True, text=True, timeout=900
        )
        assert found.returncode == 0, f"{shortened}\n{found.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    notebook = nbformat.read(path, 4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed with outputs"
    client = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    printed = [
        output for cell in notebook.cells for output in cell.get("outputs", [])
        if output.output_type in ("stream", "execute_result", "display_data")
    ]  # fmt: skip
    assert len(printed) >= 4
    assert not any(output.get("name") == "stderr" for output in printed), printed


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that prints nothing."""

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built without a warning."""
    if shutil.which("mkdocs", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("mkdocs is not installed (extra docs)")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    found = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return folder


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]+src=\"?(https?:)?//", text)
        styles = re.findall(r"<link[^>]+rel=\"?(?:stylesheet|preconnect|icon)[^>]+", text)
        assert not loaded, page
        assert not any("//" in style for style in styles), page
    assert "CraterClassifier" in (site / "api.html").read_text()


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize("served", [False, True], ids=["disk", "server"])
def test_the_search_of_the_site_needs_no_network(served: bool, site: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, browser() as page:
        Thread(target=server.serve_forever, daemon=True).start()
        start = f"http://127.0.0.1:{server.server_port}" if served else site.as_uri()
        page.get(f"{start}/limits.html?q=completeness")
        link = (By.CSS_SELECTOR, ".md-search-result__item a")
        found = WebDriverWait(page, 120).until(lambda page: page.find_elements(*link))
        assert found[0].get_attribute("href") == f"{start}/completeness.html"
        known = (start, "data:", "about:")
        assert [name for name in requested(page) if not name.startswith(known)] == []
        server.shutdown()
