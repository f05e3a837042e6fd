"""The page of all figures, from folders in every state."""

import base64
import html.parser
import json
import re

import ml_collections
import pytest

from experiments import _launch, _results, report_page

PNG = b"\x89PNG\r\n\x1a\n not much of a picture"
CLAIMS = [
    _results.claim("w*(λ) < 1 | always", "0.5 & less\nthan 1", holds=True),
    _results.claim("It is _best_.", "2.5 > 1, as <b> is steep", holds=False),
]
UNJUDGED = _results.unjudged(CLAIMS)


def make(folder, config=None, results=None, pictures=("one", "two")):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config or {"steps": 3}))
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results))
        for name in pictures:
            (folder / f"{name}.png").write_bytes(PNG + name.encode())


@pytest.fixture
def figures(tmp_path):
    """Figures that are done, old, running, damaged, and none."""
    done = {"claims": CLAIMS, "command": "python -m x '--a=(1, 2)'", "wall_seconds": 125.4}
    make(tmp_path / "done", {"title": "What a <title>", "scale": 0.25}, done)
    make(tmp_path / "an_old_one", results={"claims": CLAIMS[:1]}, pictures=())
    make(tmp_path / "loss_manifold")
    make(tmp_path / "damaged", results={})
    (tmp_path / "damaged" / "results.json").write_text('{"claims": [')
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.txt").write_text("not a figure")
    return tmp_path


class Page(html.parser.HTMLParser):
    """Text by section, table rows and pictures, of a page whose tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sections, self.rows, self.pictures, self.links = [], {"": ""}, [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag == "section":
            self.sections[named["id"]] = ""
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
        if tag == "img":
            self.pictures.append(named["src"])
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.rows[-1][-1] += data
        self.sections[list(self.sections)[-1]] += data


def test_the_page_shows_every_claim_and_picture_and_needs_nothing_else(figures):
    path, _ = report_page.write(figures)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert [row for row in page.rows if row] == [
        ["w*(λ) < 1 | always", "0.5 & less\nthan 1", "✓ holds"],
        ["w*(λ) < 1 | always", "0.5 & less\nthan 1", "✓ holds"],
        ["It is _best_.", "2.5 > 1, as <b> is steep", "✗ does not hold"],
    ]
    before = "data:image/png;base64,"
    assert all(picture.startswith(before) for picture in page.pictures)
    pictures = [base64.b64decode(picture.removeprefix(before)) for picture in page.pictures]
    assert pictures == [PNG + b"one", PNG + b"two"]
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert {link[1:] for link in page.links if link[0] == "#"} == {*page.sections} - {""}
    assert not re.search(r"https?:|url\(|@import|<script", text)
    assert '<meta name="viewport"' in text
    assert "prefers-color-scheme: dark" in text
    assert "What a <title>" in page.sections["done"]
    assert "python -m x '--a=(1, 2)'" in page.sections["done"]
    assert "in 2 min 5 s" in page.sections["done"]
    assert '"scale": 0.25' in page.sections["done"]


def test_the_state_of_each_figure_in_the_order_asked(figures):
    path, other = report_page.write(figures, ["done", "nowhere"])
    page, markdown = Page(path.read_text(encoding="utf-8")), other.read_text(encoding="utf-8")
    assert list(page.sections) == ["", "done", "nowhere", "an_old_one", "damaged", "loss_manifold"]
    for name, state in {
        "nowhere": "not run.",
        "damaged": "results.json is damaged.",
        "loss_manifold": "not finished: still running, or stopped.",
    }.items():
        assert f"{name}: {state}" in page.sections[name]
        assert f"`{name}`: {state}" in markdown
    summary = "2 of 5 figures; 2 of 3 claims hold; 2 min 5 s in total."
    assert summary in page.sections[""]
    assert summary in markdown
    assert "1 of 2 claims hold" in page.sections[""]
    # Of the experiment's docstring, though it has not come to results.
    assert "Figure 1 of the paper" in page.sections["loss_manifold"]


def test_the_markdown_twin(figures):
    _, path = report_page.write(figures)
    text = path.read_text(encoding="utf-8")
    assert "## What a \\<title\\>" in text
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert links.count("done/one.png") == 1
    assert all((figures / link).is_file() for link in links)
    rows = [
        re.split(r"(?<!\\)\|", line)[1:-1]
        for line in text.splitlines()
        if line.startswith("| ") and "---" not in line and "measured" not in line
    ]
    assert rows[1:] == [
        [" w\\*(λ) \\< 1 \\| always ", " 0.5 & less than 1 ", " holds "],
        [" It is \\_best\\_. ", " 2.5 \\> 1, as \\<b\\> is steep ", " **does not hold** "],
    ]
    assert "in 2 min 5 s:\n\n    python -m x '--a=(1, 2)'\n" in text


def test_what_a_launched_experiment_leaves_is_read(tmp_path):
    def run(config, workdir, *, resume=False):
        (workdir / "drawn.png").write_bytes(PNG)
        return {"claims": CLAIMS}

    config = tmp_path / "config.py"
    config.write_text(
        "from ml_collections import ConfigDict\nget_config = lambda: ConfigDict({'steps': 3})"
    )
    _launch.main(run, [f"--config={config}", f"--workdir={tmp_path / 'run'}"])
    figure = report_page.read(tmp_path / "run")
    assert figure.state == report_page.DONE
    assert figure.config == ml_collections.ConfigDict({"steps": 3}).to_dict()
    assert figure.command.endswith(f"--config={config} --workdir={tmp_path / 'run'}")
    assert figure.seconds is not None
    assert [path.name for path in figure.pictures] == ["drawn.png"]
    assert [claim["holds"] for claim in figure.claims] == [True, False]


def test_claims_without_a_verdict(tmp_path):
    make(tmp_path / "quick", results={"claims": UNJUDGED})
    path, other = report_page.write(tmp_path)
    page, markdown = Page(path.read_text(encoding="utf-8")), other.read_text(encoding="utf-8")
    assert [row[-1] for row in page.rows if row] == ["not judged"] * 2
    assert markdown.count("| not judged |") == 2
    assert "1 of 1 figures; 2 claims not judged; " in page.sections[""]
    make(tmp_path / "mixed", results={"claims": [*CLAIMS, *UNJUDGED]})
    path, other = report_page.write(tmp_path)
    for text in (path, other):
        assert "1 of 2 claims hold, 4 not judged; " in text.read_text(encoding="utf-8")


def test_from_the_command_line(figures, capsys):
    report_page.main([str(figures), "done"])
    assert str(figures / "report.html") in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        report_page.main([str(figures / "nowhere")])
    assert stopped.value.code == 2
    assert "is no folder" in capsys.readouterr().err


def test_an_empty_folder_is_a_page_too(tmp_path):
    path, _ = report_page.write(tmp_path)
    assert "0 of 0 figures" in Page(path.read_text(encoding="utf-8")).sections[""]
