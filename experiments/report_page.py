"""One page of all figures below a folder: pictures, claims and verdicts.

python -m experiments.report_page FOLDER [NAME ...]

FOLDER holds one folder for each figure, as `make figures` leaves them. It gets report.html, which
holds its pictures and needs nothing else, and report.md, which shows them by relative path. With
names, these figures come first and in this order, and one that was not run is listed as missing.
"""

import argparse
import ast
import base64
import html
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments import _claims

# Style, words in HTML and words in Markdown.
VERDICTS = {
    True: ("good", "✓ holds", "holds"),
    False: ("bad", "✗ does not hold", "**does not hold**"),
    None: ("soft", "not judged", "not judged"),
}
DONE, UNFINISHED, MISSING = "done", "not finished: still running, or stopped", "not run"

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #667; --line: #d5d9de;
  --good: #1a7f4b; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --paper: #14171a; --soft: #9aa3ad; --line: #353b42; --good: #63c997;
    --bad: #ff8a80; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
a { color: inherit; }
section { border-top: 1px solid var(--line); margin-top: 2.5rem; }
img { display: block; width: 100%; height: auto; margin: 1rem 0; background: #fff; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .5rem .75rem .5rem 0; border-top: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { border: 0; color: var(--soft); font-weight: normal; }
td:last-child { white-space: nowrap; }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
.soft { color: var(--soft); }
pre { overflow-x: auto; white-space: pre-wrap; font-size: .85rem; }
@media (max-width: 40rem) {
  thead { display: none; }
  tr { display: block; border-top: 1px solid var(--line); padding: .5rem 0; }
  td { display: block; border: 0; padding: .15rem 0; }
}
"""


class Figure(NamedTuple):
    """One figure, finished or not.

    Attributes:
      name: of its experiment and its folder.
      title: in words.
      state: `DONE`, `UNFINISHED` or `MISSING`, or the fault of its results.
      claims: as `_results.claim` makes them.
      pictures: PNG files.
      command: that made it, empty if unknown.
      seconds: that it took on the wall, None if unknown.
      config: that it was made with, None if unknown.
    """

    name: str
    title: str
    state: str
    claims: Sequence[dict[str, Any]] = ()
    pictures: Sequence[pathlib.Path] = ()
    command: str = ""
    seconds: float | None = None
    config: dict[str, Any] | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.report_page",
        description="Gathers the figures below a folder in report.html and report.md.",
    )
    parser.add_argument("folder", type=pathlib.Path, help="holds one folder for each figure")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a figure that should be there")
    parsed = parser.parse_args(arguments)
    if not parsed.folder.is_dir():
        parser.error(f"{parsed.folder} is no folder")
    for path in write(parsed.folder, parsed.names):
        print(f"The report is in {path}.")


def write(folder: pathlib.Path, names: Sequence[str] = ()) -> tuple[pathlib.Path, pathlib.Path]:
    """Write report.html and report.md into a folder of figures, and return their paths."""
    found = sorted(path.parent.name for path in folder.glob("*/config.json"))
    figures = [read(folder / name) for name in dict.fromkeys([*names, *found])]
    pages = folder / "report.html", folder / "report.md"
    for path, page in zip(pages, (to_html(figures), to_markdown(figures, folder)), strict=True):
        path.write_text(page, encoding="utf-8")
    return pages


def read(folder: pathlib.Path) -> Figure:
    """A figure from its folder, whatever is missing or damaged there."""
    config, results = (_read_json(folder / f"{name}.json") for name in ("config", "results"))
    title = str((config or {}).get("title") or _described(folder.name))
    if results is None:
        made = folder.is_dir()
        state = MISSING if not made else UNFINISHED
        if (folder / "results.json").exists():
            state = "results.json is damaged"
        return Figure(folder.name, title, state, config=config)
    seconds = results.get("wall_seconds")
    return Figure(
        name=folder.name,
        title=title,
        state=DONE,
        claims=results.get("claims", []),
        pictures=sorted(folder.glob("*.png")),
        command=results.get("command", ""),
        seconds=None if seconds is None else float(seconds),
        config=config,
    )


def to_html(figures: Sequence[Figure]) -> str:
    """The page with its pictures inside."""
    contents = "".join(
        f'<li><a href="#{_text(each.name)}">{_text(each.title)}</a> '
        f'<span class="soft">{_text(_verdict(each))}</span></li>'
        for each in figures
    )
    sections = "".join(map(_section, figures))
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Figures</title><style>{STYLE}</style></head>\n"
        f"<body><h1>Figures</h1><p>{_text(_summary(figures))}</p><ol>{contents}</ol>\n"
        f"{sections}</body></html>\n"
    )


def to_markdown(figures: Sequence[Figure], folder: pathlib.Path) -> str:
    """The same, with pictures by their paths relative to the folder."""
    parts = ["# Figures", _summary(figures)]
    for each in figures:
        parts.append(f"## {_escaped(each.title)}")
        if each.state != DONE:
            parts.append(f"`{each.name}`: {each.state}.")
        for path in each.pictures:
            parts.append(f"![{_escaped(path.stem)}]({path.relative_to(folder).as_posix()})")
        if each.claims:
            rows = [
                f"| {_escaped(claim['claim'])} | {_escaped(claim['measured'])} "
                f"| {VERDICTS[claim['holds']][2]} |"
                for claim in each.claims
            ]
            parts.append("\n".join(["| claim | measured | |", "| --- | --- | --- |", *rows]))
        if each.command:
            took = "" if each.seconds is None else f", in {_duration(each.seconds)}"
            parts.append(f"Made by{took}:\n\n    {each.command}")
        if each.config is not None:
            parts.append(f"Its config is in [config.json]({each.name}/config.json).")
    return "\n\n".join(parts) + "\n"


def _section(figure: Figure) -> str:
    parts = [f'<section id="{_text(figure.name)}"><h2>{_text(figure.title)}</h2>']
    if figure.state != DONE:
        parts.append(f'<p class="bad">{_text(figure.name)}: {_text(figure.state)}.</p>')
    for path in figure.pictures:
        data = base64.b64encode(path.read_bytes()).decode()
        parts.append(f'<img alt="{_text(path.stem)}" src="data:image/png;base64,{data}">')
    if figure.claims:
        parts.append(
            "<table><thead><tr><th>claim</th><th>measured</th><th></th></tr></thead><tbody>"
        )
        for claim in figure.claims:
            kind, verdict, _ = VERDICTS[claim["holds"]]
            parts.append(
                f"<tr><td>{_text(claim['claim'])}</td><td>{_text(claim['measured'])}</td>"
                f'<td class="{kind}">{verdict}</td></tr>'
            )
        parts.append("</tbody></table>")
    if figure.command:
        took = "" if figure.seconds is None else f", in {_duration(figure.seconds)}"
        parts.append(f'<p class="soft">Made by{took}:</p><pre>{_text(figure.command)}</pre>')
    if figure.config is not None:
        settings = _text(json.dumps(figure.config, indent=2, ensure_ascii=False))
        parts.append(f"<details><summary>Config</summary><pre>{settings}</pre></details>")
    return "".join([*parts, "</section>\n"])


def _read_json(path: pathlib.Path) -> dict[str, Any] | None:
    """The contents of a file; None if it is absent, or half written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _described(name: str) -> str:
    """The first line of an experiment's docstring, found without running the file."""
    path = pathlib.Path(__file__).parent / f"{name}.py"
    if not path.exists():
        return name
    described = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or name
    return described.splitlines()[0]


def _summary(figures: Sequence[Figure]) -> str:
    done = [each for each in figures if each.state == DONE]
    took = _duration(sum(each.seconds or 0 for each in done))
    claims = _claims.count([claim for each in done for claim in each.claims])
    return f"{len(done)} of {len(figures)} figures; {claims}; {took} in total."


def _verdict(figure: Figure) -> str:
    return _claims.count(figure.claims) if figure.state == DONE else figure.state


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _text(text: str) -> str:
    return html.escape(str(text))


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, also in a table."""
    return re.sub(r"([\\`*_{}\[\]<>|#~$])", r"\\\1", " ".join(str(text).split()))


if __name__ == "__main__":
    main()
