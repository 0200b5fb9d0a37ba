#!/usr/bin/env python3
"""Is a report a page that stands on its own?   report_check.py PAGE.html FIGURES[,...] ['MARK']

Well-formed; one title, one h1, headings without gaps; every table with caption and scopes; every figure of the list there,
drawn (svg with role and words) and with its numbers; ids once; no address of anything outside; no script but the one whose
hash the policy names; no handler; the nine items of the first page in their order; the mark on the page, every table and
every figure. Exit 1 and one line for each fault."""
import base64
import hashlib
import re
import sys
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "input", "link"}
ITEMS = {
    "scenario": ["", "Money, in", "The saving becomes 0 with", "Limits", "Accuracy", "Evidence", "Age of the prices",
                 "Left out", "What would change our mind"],
    "records": ["NO VERDICT", "Money", "What moves it most", "Limits", "Accuracy", "Evidence", "Age of the prices",
                "Left out", "What would change our mind"],
}


class Page(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.faults, self.ids, self.levels, self.leads = [], [], set(), [], []
        self.tables, self.figures, self.scripts, self.text_of = [], {}, [], None
        self.policy = self.language = self.viewport = None
        self.banner, self.text = "", []

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if len(a) != len(attrs):
            self.faults.append(f"an attribute twice in <{tag}>")
        for name, value in attrs:
            if name.startswith("on"):
                self.faults.append(f"handler {name} in <{tag}>")
            if name in ("href", "src", "xlink:href", "action", "data", "srcset") and not (value or "").startswith("#"):
                self.faults.append(f"{name}={value!r} in <{tag}> leads outside")
            if name == "style" and re.search(r"url\(|expression|@import", value or ""):
                self.faults.append(f"style of <{tag}>: {value}")
        if "id" in a:
            if a["id"] in self.ids:
                self.faults.append(f"id {a['id']} twice")
            self.ids.add(a["id"])
        if tag in ("iframe", "object", "embed", "base", "form", "img", "foreignobject", "link"):
            self.faults.append(f"<{tag}> does not belong here")
        if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy":
            self.policy = a["content"]
        if tag == "meta" and a.get("name") == "viewport":
            self.viewport = a["content"]
        if tag == "html":
            self.language = a.get("lang")
        if tag == "table":
            self.tables.append({"caption": "", "cols": 0, "rows": 0, "bad": 0})
        if tag == "th" and a.get("scope") not in ("col", "row"):
            self.tables[-1]["bad"] += 1
        if tag == "th" and a.get("scope") == "col":
            self.tables[-1]["cols"] += 1
        if tag == "tr":
            self.tables[-1]["rows"] += 1
        if tag == "figure":
            self.figures[a.get("id", "")] = {"svg": 0, "label": "", "caption": "", "paths": 0}
        if tag == "svg" and self.figures:
            last = list(self.figures.values())[-1]
            last["svg"] += a.get("role") == "img"
            last["label"] = a.get("aria-label", "")
        if tag in ("path", "circle", "use") and "figure" in self.open:
            list(self.figures.values())[-1]["paths"] += 1
        if tag == "script":
            self.scripts.append("")
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "strong" and "ol" in self.open:
            self.leads.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.faults.append(f"</{tag}> where <{self.open[-1] if self.open else 'nothing'}> is open, line {self.getpos()[0]}")
        else:
            self.open.pop()

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts[-1] += data
        elif "caption" in self.open:
            self.tables[-1]["caption"] += data
        elif "figcaption" in self.open:
            list(self.figures.values())[-1]["caption"] += data
        if "strong" in self.open and "ol" in self.open:
            self.leads[-1] += data
        if self.open and self.open[-1] == "p":
            self.text.append(data)


def check(path, figures, mark):
    raw = open(path, encoding="utf-8", errors="strict").read()
    page = Page()
    page.feed(raw)
    page.close()
    f = page.faults
    if page.open:
        f.append(f"never closed: {page.open}")
    if not raw.startswith("<!DOCTYPE html>") or page.language != "en" or not page.viewport:
        f.append("doctype, language or viewport is missing")
    if page.levels.count(1) != 1 or any(b > a + 1 for a, b in zip(page.levels, page.levels[1:])):
        f.append(f"headings: {page.levels}")
    for t in page.tables:
        if not t["caption"].strip() or not t["cols"] or t["rows"] < 2 or t["bad"]:
            f.append(f"table {t}")
        if mark and mark not in t["caption"]:
            f.append(f"table without the mark: {t['caption']!r}")
    if {name.removeprefix("figure-") for name in page.figures} != set(figures):
        f.append(f"figures {sorted(page.figures)}, expected {sorted(figures)}")
    for name, figure in page.figures.items():
        if figure["svg"] != 1 or len(figure["label"]) < 20 or figure["paths"] < 10 or not figure["caption"]:
            f.append(f"figure {name}: {figure}")
        if mark and mark not in figure["caption"]:
            f.append(f"figure {name} without the mark")
    if mark and not any(mark in t for t in page.text):
        f.append("the page does not bear the mark")
    if len(page.scripts) != 1:
        f.append(f"{len(page.scripts)} scripts")
    digest = base64.b64encode(hashlib.sha256("".join(page.scripts[:1]).encode()).digest()).decode()
    if not page.policy or f"'sha256-{digest}'" not in page.policy or "default-src 'none'" not in page.policy:
        f.append(f"policy: {page.policy}")
    if re.search(r"\b(fetch|XMLHttpRequest|eval|import|innerHTML|document\.write)\b", "".join(page.scripts)):
        f.append("the script does more than it should")
    outside = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", re.sub(r">[^<]*<", "><", raw)))
    if outside - {"http://www.w3.org"}:
        f.append(f"addresses in markup: {outside}")
    kind = "records" if page.leads and page.leads[0].startswith("NO VERDICT") else "scenario"
    if len(page.leads) != 9 or any(not got.startswith(want) for got, want in zip(page.leads, ITEMS[kind])):
        f.append(f"first page: {page.leads}")
    return f, len(page.tables), len(page.figures)


if __name__ == "__main__":
    names = [n for n in sys.argv[2].split(",") if n]
    faults, n_tables, n_figures = check(sys.argv[1], names, sys.argv[3] if len(sys.argv) > 3 else "")
    for fault in faults:
        print(f"{sys.argv[1]}: {fault}")
    print(f"{sys.argv[1]}: {n_tables} tables, {n_figures} figures, {len(faults)} faults")
    sys.exit(1 if faults or not n_tables else 0)
