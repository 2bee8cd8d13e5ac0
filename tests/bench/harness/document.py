"""A document of few kinds of blocks, as Markdown beside SVG files and as one HTML file.

Blocks: ("h", level, text), ("p", text), ("list", [text]), ("table", [head], [[cell]]), ("plot", name, alt). Text may have
`code` and **bold**.
"""

import re
from html import escape

CSS = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;color:#222;background:#fff}
h1{font-size:1.6em}h2{margin-top:2em;font-size:1.25em}h3{font-size:1.05em}
table{border-collapse:collapse;margin:1em 0;font-size:13px;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}
th,td{padding:3px 9px;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}
th:first-child,td:first-child,.left{text-align:left}th{border-bottom:2px solid #999;white-space:normal;vertical-align:bottom}
tr.new td{border-top:1px solid #999}
svg{max-width:100%;height:auto;display:block;margin:1em 0;border:1px solid #ddd}
code{background:#f2f2f2;padding:0 3px;font-size:.92em}
@media (prefers-color-scheme:dark){body{color:#e4e4e4;background:#181818}th,td{border-color:#3a3a3a}svg{border-color:#3a3a3a}
code{background:#2a2a2a}}
"""


def _inline(text):
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)


def _textual(column):
    """Whether a column holds words."""
    return any(re.search(r"[A-Za-z]{3}", cell) for cell in column)


def markdown(blocks, wrap=125):
    out = []
    for block in blocks:
        if block[0] == "h":
            out.append("#" * block[1] + " " + block[2])
        elif block[0] == "p":
            out.append(_wrapped(block[1], wrap))
        elif block[0] == "list":
            out.append("\n".join("- " + _wrapped(item, wrap - 2).replace("\n", "\n  ") for item in block[1]))
        elif block[0] == "table":
            head, rows = block[1], block[2]
            words = [_textual([row[i] for row in rows]) for i in range(len(head))]
            rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
            lines = [head, ["---" if left else "---:" for left in words], *rows]
            out.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
        elif block[0] == "plot":
            out.append(f"![{block[2]}]({block[1]}.svg)")
    return "\n\n".join(out) + "\n"


def _wrapped(text, width):
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def html(blocks, plots, title):
    """plots: {name: SVG}."""
    out = []
    for block in blocks:
        if block[0] == "h":
            out.append(f"<h{block[1]}>{_inline(block[2])}</h{block[1]}>")
        elif block[0] == "p":
            out.append(f"<p>{_inline(block[1])}</p>")
        elif block[0] == "list":
            out.append("<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in block[1]) + "</ul>")
        elif block[0] == "table":
            out.append(_table(block[1], block[2]))
        elif block[0] == "plot":
            out.append(plots[block[1]])
    return (f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
            f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n" + "\n".join(out) + "\n</html>\n")


def _table(head, rows):
    left = [_textual([row[i] for row in rows]) for i in range(len(head))]

    def line(tag, cells, kind=""):
        return f"<tr{kind}>" + "".join(f'<{tag}{" class=left" if is_left else ""}>{_inline(cell)}</{tag}>'
                                       for cell, is_left in zip(cells, left)) + "</tr>"
    body, first = [], None
    for row in rows:
        # a rule above each new group: rows whose first cell is the same belong together
        body.append(line("td", row, " class=new" if first not in (None, row[0]) else ""))
        first = row[0]
    return f'<div class="wide"><table>{line("th", head)}\n' + "\n".join(body) + "</table></div>"
