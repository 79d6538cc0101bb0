"""sweep.html: true to the table, self-contained, and in Chromium without a complaint or a request."""

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from chromium import CHROMIUM, Browser
from sweep_metrics import metrics_of

from llmlat.jobs.folder import SweepFolder
from llmlat.sweep import summarise

MakeJob = Callable[..., Path]
HOSTILE = "</script><script>alert(1)</script>\n<img src=http://evil.example/a>"


class Text(HTMLParser):
    """Collects what a reader sees."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.text, self.hidden = "", False
        self.tags: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.hidden = tag in {"script", "style"}

    def handle_data(self, data: str) -> None:
        self.text += "" if self.hidden else data


def page_of(folder: Path) -> Text:
    summarise(folder)
    markup = (folder / "sweep.html").read_text(encoding="utf-8")
    page = Text(markup)
    assert page.tags.count("script") == 1
    assert not {"img", "iframe", "object", "form"} & set(page.tags)
    assert not re.search(r"@import|url\((?!#)|https?://(?!evil)", markup)
    assert re.search(r"\b(nan|None|NaN|inf|NA)\b", page.text) is None
    return page


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("there is no Chromium here")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def failing(make_job: MakeJob) -> Path:
    """A sweep with seeds in which one job failed, one was killed, and the model is a stand-in."""
    about = {"stand_in": True, "stand_in_for": "org/Big", "weights": "random"}
    for number, (alpha, seed) in enumerate([(0.1, 0), (0.1, 1), (10, 0), (10, 1)]):
        errors = {"mae_ms": 1.0 + number, "validation": {"mae_ms": 2.0 - number / 10, "rmse_ms": 3.0}}
        make_job(number, [f"regressor.alpha={alpha}", f"seed={seed}"], metrics_of(**errors, **about))
    failure = {"error_class": "ConfigError", "message": HOSTILE, "traceback_tail": ["line 1", HOSTILE]}
    make_job(4, ["regressor.alpha=-1", "seed=0"], failed=failure)
    return make_job(5, ["regressor.alpha=-1", "seed=1"])


def test_the_page_says_what_was_chosen(grid: Path) -> None:
    page = page_of(grid)
    for said in (
        "settings chosen on validation folds and scored on untouched test rows",
        "1.10\u00a0ms for short (alpha=1) to 3.50\u00a0ms for chat (alpha=10)",
        "the test MAE was looked at once, after the choice",
        "MAE over prompt_set and alpha",
        "What each input adds, over alpha",
        "6 jobs over prompt_set (2 values) and alpha (3 values): 6 done; 2 datasets read.",
    ):
        assert said in page.text, said
    assert "Jobs without a result" not in page.text
    markup = (grid / "sweep.html").read_text(encoding="utf-8")
    chosen = re.findall(r'<td class="warm chosen"[^>]*>([\d.]+)', markup)
    assert re.findall(r'href="(\d/report.html)"', markup) == [f"{n}/report.html" for n in range(6)]
    assert chosen == ["0.9000", "2.900", "1.100", "3.500"], "the validation map, then the same cells on test"


def test_the_page_says_what_failed_and_what_it_is_not(failing: Path) -> None:
    page = page_of(failing)
    for said in (
        "This is not org/Big.",
        "The weights are random.",
        "1 failed and 1 killed of 6 jobs.",
        "it was killed, or still runs",
        "failed: ConfigError",
        "<script>alert(1)</script>",
        "line 1",
        "± ",
        "Bars are one standard deviation over seeds.",
        "Each seed chooses for itself",
    ):
        assert said in page.text, said
    assert page.text.find("This is not") < page.text.find("The best setting")


@pytest.mark.parametrize(
    "jobs",
    [
        pytest.param([(["regressor.alpha=1"], metrics_of())], id="one job"),
        pytest.param([(["regressor.alpha=1"], None)], id="one killed job"),
        pytest.param([(["a=1"], None), (["a=2"], None)], id="nothing is done"),
        pytest.param([(["a=x"], metrics_of(validation=None)), (["a=y"], metrics_of())], id="half validated"),
        pytest.param([([f"seed={n}"], metrics_of(mae_ms=n)) for n in (1, 2, 3)], id="seeds alone"),
        pytest.param([([f"regressor.alpha={n}"], metrics_of(mae_ms=n)) for n in (1, 2)], id="one key"),
        pytest.param([([f"features={n}"], metrics_of(coefficients=None)) for n in "ab"], id="words alone"),
        pytest.param(
            [([f"a={n}", f"b={n % 2}", f"regressor.alpha={n % 3}"], metrics_of(mae_ms=n)) for n in range(9)],
            id="three keys, with holes",
        ),
        pytest.param([([f"name=n{n}"], metrics_of(mae_ms=0.0)) for n in range(12)], id="no error at all"),
    ],
)
def test_any_sweep_has_a_page(make_job: MakeJob, jobs: list[tuple[list[str], Any]]) -> None:
    for number, (overrides, metrics) in enumerate(jobs):
        folder = make_job(number, overrides, metrics)
    page_of(folder)
    assert {path.name for path in folder.glob("sweep.*")} == {"sweep.html", "sweep.csv", "sweep.parquet"}


def test_of_many_failures_the_first_are_told_at_length(make_job: MakeJob) -> None:
    for number in range(23):
        folder = make_job(number, [f"seed={number}"], failed={"error_class": "E", "message": "broke"})
    page = page_of(folder)
    assert page.tags.count("details") == 20
    assert "And 3 more, with their reasons in the table." in page.text
    assert page.text.count("E: broke") == 20 + 23 + 1


def test_jobs_not_begun_are_told_apart(make_job: MakeJob) -> None:
    folder = make_job(0, ["regressor.alpha=1"], metrics_of(), done={"config": {}})
    SweepFolder(folder).begin_command([[f"regressor.alpha={n}"] for n in (1, 2, 3)], ["regressor.alpha"])
    page = page_of(folder)
    assert "1 done and 2 not begun" in page.text
    assert "2 not begun of 3 jobs." in page.text
    assert "the sweep ended before its turn" in page.text
    assert "its own log" not in page.text
    assert (folder / "sweep.html").read_text(encoding="utf-8").count('<tr class="not-begun">') == 2


def test_a_guess_is_shown_where_it_is_known(make_job: MakeJob) -> None:
    page = page_of(make_job(0, ["regressor.alpha=1"], metrics_of(baselines={"mean": {"mae_ms": 7.5}})))
    assert "guessing the mean, MAE, ms" in page.text
    assert "7.500" in page.text


def test_without_validation_no_setting_is_named(make_job: MakeJob) -> None:
    make_job(0, ["regressor.alpha=1"], metrics_of(validation=None, mae_ms=1.0))
    page = page_of(make_job(1, ["regressor.alpha=2"], metrics_of(validation=None, mae_ms=9.0)))
    assert "Nothing can be chosen here" in page.text
    assert "The best setting" not in page.text
    assert "2 jobs cannot be chosen from: made before llmlat had them." in page.text


def test_what_is_measured_apart_is_never_mixed_into_one_cell(make_job: MakeJob) -> None:
    measured = [(engine, name) for engine in ("eager", "no_cache") for name in ("short", "chat")]
    for number, (engine, prompt_set) in enumerate(measured):
        for alpha in (1, 2, 3):
            error = 10.0 * number + alpha
            metrics = metrics_of(mae_ms=error, validation={"mae_ms": error, "rmse_ms": error})
            overrides = [f"engine={engine}", f"prompt_set={prompt_set}", f"regressor.alpha={alpha}"]
            folder = make_job(3 * number + alpha, overrides, metrics)
    page_of(folder)
    markup = (folder / "sweep.html").read_text(encoding="utf-8")
    titles = [f"{name}: on validation folds, MAE in ms" for name in ("short", "chat")]
    assert [title for title in re.findall("<caption>(.*?)</caption>", markup) if "folds" in title] == titles
    cells = re.findall(r'<td class="warm[^>]*>([\d.]+)', markup)
    short, chat = cells[:6], cells[12:18]
    assert [float(cell) for cell in short] == [1, 2, 3, 21, 22, 23]
    assert [float(cell) for cell in chat] == [11, 12, 13, 31, 32, 33]
    assert markup.count("warm chosen") == 8


def test_settings_measured_apart_are_told(make_job: MakeJob) -> None:
    make_job(0, ["regressor.alpha=1"], metrics_of(dataset_key="a"))
    page = page_of(make_job(1, ["regressor.alpha=2"], metrics_of(dataset_key="b")))
    assert "Measured more than once." in page.text


def test_the_same_sweep_makes_the_same_files(grid: Path) -> None:
    written = []
    for _ in range(2):
        summarise(grid)
        written.append([(grid / name).read_bytes() for name in ("sweep.html", "sweep.csv", "sweep.parquet")])
    assert written[0] == written[1]


# In Chromium


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_it_opens_without_a_complaint_or_a_request(
    browser: Browser, failing: Path, width: int, dark: bool
) -> None:
    summarise(failing)
    browser.open(failing / "sweep.html", width, dark)
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "only tables are wider"
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(14, 18, 23)" if dark else "rgb(245, 246, 248)")
    assert browser.requests() == [(failing / "sweep.html").resolve().as_uri()]
    assert browser.alarms() == []


COLUMN = """[...document.querySelector("table.sortable").tBodies[0].rows].map(
    row => row.cells[[...row.closest("table").tHead.rows[0].cells].findIndex(
        head => head.textContent === "{}")].textContent)"""
FOCUS = """[...document.querySelectorAll("table.sortable button")].find(
    button => button.textContent === "{}").focus()"""


def test_the_table_sorts_by_click_and_by_key(browser: Browser, failing: Path) -> None:
    summarise(failing)
    browser.open(failing / "sweep.html")
    browser.evaluate("""document.querySelectorAll("table.sortable button")[2].click()""")  # alpha
    assert browser.evaluate(COLUMN.format("alpha")) == ["-1", "-1", "0.1", "0.1", "10", "10"]
    browser.evaluate(FOCUS.format("test MAE, ms"))
    browser.press("Enter", 13, "\r")
    expected = ["1.000", "2.000", "3.000", "4.000", "", ""]
    assert browser.evaluate(COLUMN.format("test MAE, ms")) == expected
    browser.press(" ", 32, " ")
    assert browser.evaluate(COLUMN.format("test MAE, ms")) == [*expected[3::-1], "", ""], "blanks stay last"
    sorts = """[...document.querySelectorAll("[aria-sort]")].map(head => head.ariaSort)"""
    assert browser.evaluate(sorts) == ["descending"]
    assert browser.alarms() == []


def test_the_page_lets_no_other_script_run(browser: Browser, grid: Path) -> None:
    summarise(grid)
    page = grid / "sweep.html"
    page.write_text(page.read_text().replace("</main>", "<script>window.foreign = 1</script></main>"))
    browser.open(page)
    assert browser.evaluate("window.foreign") is None
    assert browser.alarms() != []


def test_a_real_sweep_opens(browser: Browser, real_sweep: Path) -> None:
    summarise(real_sweep)
    browser.open(real_sweep / "sweep.html")
    assert browser.evaluate("document.querySelectorAll('table.sortable tbody tr').length") == 6
    assert browser.evaluate("document.querySelectorAll('figure svg').length") == 3
    assert browser.alarms() == []
