#!/usr/bin/env python3
"""Opens reports in headless Chromium, at the width of a desk and of a phone:   report_browser.py PAGE.html...

A copy of the page with a script of ours behind its own (and without its policy, which would forbid that) presses every
column heading twice, and reads what the browser made of the page: errors, tables sorted, figures with an area, whether
the page is wider than the window. The page as it is must ask for nothing outside: the browser's net log says so.
Exit 1 on a fault, 6 without Chromium."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

PROBE = """
const r={errors:window.__errors,tables:0,sorted:0,figures:0,wide:0,unsorted:[]};
for(const t of document.querySelectorAll('table')){
 r.tables++;
 if(t.tBodies[0].rows.length<2)continue;
 const heads=[...t.tHead.rows[0].cells];
 heads.forEach((th,i)=>{for(const up of [true,false]){
  th.querySelector('button').click();
  const v=[...t.tBodies[0].rows].map(x=>x.cells[i]).filter(c=>c.dataset.v!==undefined).map(c=>Number(c.dataset.v));
  const ok=v.every((x,k)=>!k||(up?v[k-1]<=x:v[k-1]>=x))&&th.getAttribute('aria-sort')===(up?'ascending':'descending');
  if(!ok)r.unsorted.push(t.caption.textContent+' / '+th.textContent);else r.sorted++;
 }});
}
for(const d of document.querySelectorAll('details'))d.open=true;
for(const f of document.querySelectorAll('figure svg')){const b=f.getBoundingClientRect();if(b.width>200&&b.height>100)r.figures++}
r.wide=document.documentElement.scrollWidth-window.innerWidth;
const p=document.createElement('pre');p.id='probe';p.textContent=JSON.stringify(r);document.body.append(p);
"""


def run(chromium, path, width, folder, log=None):
    command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
               "--disable-component-update", f"--user-data-dir={folder}/profile", f"--window-size={width},900", "--dump-dom",
               "--virtual-time-budget=3000"]
    if log:
        command += [f"--log-net-log={log}", "--net-log-capture-mode=IncludeSensitive"]
    done = subprocess.run(command + ["file://" + path], capture_output=True, text=True, timeout=90)
    return done.stdout


def requests_of(log):
    """Addresses that pages asked for, from the net log; the browser's own housekeeping starts without a page."""
    text = open(log, encoding="utf-8", errors="replace").read().rstrip().rstrip(",")
    try:
        events = json.loads(text if text.endswith("}") and '"polledData"' in text else text + "]}")["events"]
    except ValueError:
        return ["the net log cannot be read"]
    urls = {e["params"]["url"] for e in events if "url" in e.get("params", {}) and e["params"].get("initiator", "").startswith("file")}
    return sorted(u for u in urls if not u.startswith(("file:", "data:", "about:", "blob:")))


def check(chromium, page):
    faults, path = [], os.path.abspath(page)
    raw = open(path, encoding="utf-8").read()
    copy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "<script>window.__errors=[];onerror=m=>"
                  "{window.__errors.push(String(m))}</script>", raw)
    copy = copy.replace("</body>", f"<script>{PROBE}</script></body>")
    n_figures, n_tables = raw.count("<svg "), raw.count("<table ")
    with tempfile.TemporaryDirectory() as folder:
        probe = os.path.join(folder, "page.html")
        open(probe, "w", encoding="utf-8").write(copy)
        dom = run(chromium, path, 1280, folder, os.path.join(folder, "net.json"))
        asked = requests_of(os.path.join(folder, "net.json"))
        if asked:
            faults.append(f"asks for {asked}")
        if dom.count("<button ") < 5:
            faults.append("its own script does not run under its own policy")
        for width in (1280, 500):
            got = re.search(r'<pre id="probe">(.*?)</pre>', run(chromium, probe, width, folder), re.S)
            if not got:
                faults.append(f"width {width}: the probe did not run")
                continue
            r = json.loads(got.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
            if r["errors"] or r["unsorted"] or r["tables"] != n_tables or r["figures"] != n_figures or r["wide"] > 0 or not r["sorted"]:
                faults.append(f"width {width}: {r}")
            else:
                print(f"{page}: {width} wide: {r['tables']} tables, {r['sorted']} sortings, {r['figures']} figures")
    return faults


if __name__ == "__main__":
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        print("no Chromium here")
        sys.exit(6)
    faults = [(page, f) for page in sys.argv[1:] for f in check(chromium, page)]
    for page, fault in faults:
        print(f"{page}: {fault}")
    sys.exit(1 if faults or len(sys.argv) < 2 else 0)
