"""Colours of both themes and the page's style. No script: the reader's system says which theme."""

from __future__ import annotations

# name: (light, dark). Told apart by those who see fewer colours, too: they differ in lightness as well as in hue.
COLOURS = {
    "ink": ("#17202b", "#e6ebf1"),
    "soft": ("#5a6675", "#9aa7b6"),
    "page": ("#ffffff", "#10151b"),
    "panel": ("#f5f7fa", "#181f28"),
    "line": ("#e1e6ec", "#2a333e"),
    "band": ("#eef2f7", "#1a222c"),
    "on-bar": ("#ffffff", "#0d1117"),
    "good": ("#12805c", "#3ccf9b"),
    "bad": ("#c8313a", "#ff7b7b"),
    "warn": ("#9a6700", "#e3b341"),
    "direct": ("#657386", "#93a1b3"),
    "first": ("#b5651d", "#e9a15b"),
    "through": ("#2463d6", "#6ea8ff"),
    "kind-1": ("#2463d6", "#6ea8ff"),
    "kind-2": ("#946600", "#f0c14b"),
    "kind-3": ("#0c8577", "#4fd6c4"),
    "kind-4": ("#8a3fa8", "#d79bf0"),
    "due": ("#b9c4d2", "#475567"),
    "answered": ("#1f4fae", "#8fbcff"),
    "late": ("#9aa5b1", "#6b7785"),
    "auth": ("#7a3fd1", "#b894ff"),
    "queue": ("#8f6400", "#f0c14b"),
    "wake": ("#c2450f", "#ff9460"),
    "connect": ("#0c8577", "#4fd6c4"),
    "engine": ("#5b6f8a", "#8ea3bf"),
    "network": ("#2463d6", "#6ea8ff"),
    "state-ready": ("#2f9e6e", "#38b381"),
    "state-starting": ("#e0a526", "#e3b341"),
    "state-draining": ("#c98fb0", "#b7789c"),
    "state-asleep": ("#a9b8cc", "#54657c"),
    "tier-gpu": ("#2f9e6e", "#38b381"),
    "tier-host": ("#5fa8e6", "#4a8fd0"),
    "tier-page_cache": ("#b7a4e0", "#8671bb"),
    "tier-disk": ("#cfd6de", "#3d4854"),
    "tier-remote": ("#e8e3da", "#2e2a24"),
}


def _block(theme: int) -> str:
    return ";".join(f"--{name}:{colours[theme]}" for name, colours in COLOURS.items())


THEMES = f":root{{color-scheme:light dark;{_block(0)}}}@media(prefers-color-scheme:dark){{:root{{{_block(1)}}}}}"
# A picture that stands alone has its own variables; shown as an <img>, it follows the reader's system.
ALONE = f"<style>svg{{{_block(0)}}}@media(prefers-color-scheme:dark){{svg{{{_block(1)}}}}}</style>"

STYLE = (
    THEMES
    + """
*{box-sizing:border-box}
body{margin:0;color:var(--ink);background:var(--page);font:15px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:61rem;margin:0 auto;padding:1.6rem 1.1rem 4rem}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .3rem;letter-spacing:-.01em}
h2{font-size:1.08rem;margin:2.5rem 0 .25rem}
p{margin:.25rem 0 .7rem}
.soft,figcaption{color:var(--soft);font-size:.87rem}
figure{margin:.7rem 0 0}
svg{width:100%;height:auto;display:block}
svg.narrow{display:none}
.badges{display:flex;flex-wrap:wrap;gap:.4rem;margin:.8rem 0 1.1rem}
.badge{border:1px solid var(--line);border-radius:99px;padding:.08rem .7rem;font-size:.82rem;font-weight:600}
.badge.good{color:var(--good)}.badge.bad{color:var(--bad)}.badge.warn{color:var(--warn)}
.cards{display:grid;grid-template-columns:repeat(4,1fr);gap:.7rem}
.cards.n5{grid-template-columns:repeat(5,1fr)}.cards.n3,.cards.n6{grid-template-columns:repeat(3,1fr)}
.card{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:.7rem .9rem}
.card b{display:block;font-size:1.42rem;line-height:1.3;letter-spacing:-.01em;font-variant-numeric:tabular-nums}
.card span{display:block;color:var(--soft);font-size:.82rem}
.card .what{color:var(--ink);font-weight:600}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.wide-table{overflow-x:auto;margin-top:.6rem}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums;width:100%}
th,td{text-align:right;padding:.32rem .55rem;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}
th{color:var(--soft);font-weight:600;vertical-align:bottom}
td small{color:var(--soft);display:block;font-size:.78rem}
ul.notes{padding-left:1.1rem;margin:.5rem 0}ul.notes li{margin:.3rem 0}
details{border-top:1px solid var(--line);padding:.6rem 0}details:last-of-type{border-bottom:1px solid var(--line)}
summary{cursor:pointer;font-weight:600}
pre{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:.6rem .8rem;overflow-x:auto;
font-size:.82rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;font-size:.87rem;margin:.6rem 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.two{display:grid;grid-template-columns:minmax(0,1.05fr) minmax(0,1fr);gap:0 2.4rem;align-items:start}
.two h2{margin-top:2.5rem}
@media(max-width:900px){.two{grid-template-columns:minmax(0,1fr)}}
@media(max-width:700px){main{padding:1.1rem .9rem 3rem}h1{font-size:1.25rem}svg.wide{display:none}
svg.narrow{display:block;max-width:30rem}.cards[class]{grid-template-columns:repeat(2,1fr)}.card b{font-size:1.15rem}
dl{grid-template-columns:1fr}dt{margin-top:.4rem}}
@media print{details{display:block}main{max-width:none}}
"""
)
