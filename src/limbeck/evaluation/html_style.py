"""The look of report.html: one style sheet for light and dark, no font or file from elsewhere."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f6f3; --card: #ffffff; --ink: #1d1f23; --soft: #686d76; --line: #e2e2dc;
  --accent: #0b6e6e; --wash: #e3f1ef; --faint: #0b6e6e40;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --card: #1c1f25; --ink: #e8e9ea; --soft: #9aa1ab; --line: #30343c;
    --accent: #5cc4b8; --wash: #1b3533; --faint: #5cc4b840;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 17px; margin: 0 0 12px; }
h3 { font-size: 13px; margin: 20px 0 8px; color: var(--soft); font-weight: 600; }
.subtitle { color: var(--soft); margin: 6px 0 0; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 20px 22px; margin-top: 18px;
}
.highlights { display: flex; flex-wrap: wrap; gap: 12px; margin-top: 22px; }
.highlight { flex: 1 0 auto; background: var(--wash); border-radius: 10px; padding: 14px 18px; }
.highlight b {
  display: block; font-size: 25px; line-height: 1.25;
  color: var(--accent); font-weight: 650; white-space: nowrap;
}
.highlight span { color: var(--soft); font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th {
  color: var(--soft); font-size: 12.5px; font-weight: 600;
  text-align: right; vertical-align: bottom; padding: 0 0 8px 13px;
}
td {
  text-align: right; padding: 9px 0 9px 13px; border-top: 1px solid var(--line);
  vertical-align: top; white-space: nowrap;
}
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td small { display: block; color: var(--soft); font-size: 12px; }
tr.student td { font-weight: 600; }
tr.student td small { font-weight: 400; color: var(--accent); }
.note { color: var(--soft); font-size: 13px; margin: 12px 0 0; }
figure { margin: 0; display: grid; grid-template-columns: 84px 1fr; gap: 12px; align-items: center; }
figure + figure { margin-top: 10px; }
figcaption { font-weight: 600; font-size: 13px; }
figcaption small { display: block; color: var(--soft); font-weight: 400; }
img { display: block; max-width: 100%; height: auto; border-radius: 6px; }
.charts {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(215px, 1fr)); gap: 18px 20px; margin-top: 16px;
}
.chart small { display: block; color: var(--soft); font-size: 11.5px; line-height: 1.2; }
.chart b { font-size: 13px; font-weight: 600; overflow-wrap: anywhere; }
.chart span { float: right; color: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
.chart svg { display: block; width: 100%; height: auto; margin-top: 4px; }
svg text { fill: var(--soft); font: 9.5px system-ui, "DejaVu Sans", sans-serif; }
svg .frame { stroke: var(--line); fill: none; }
svg .raw { stroke: var(--faint); fill: none; stroke-width: 1; }
svg .line { stroke: var(--accent); fill: none; stroke-width: 1.6; stroke-linejoin: round; }
svg .dot { fill: var(--accent); }
svg .second { stroke-dasharray: 4 3; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 16px; margin: 0; font-size: 13.5px; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
ol { margin: 0; padding-left: 20px; }
li { margin: 3px 0; }
li span { color: var(--soft); }
details summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; font: 12px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; margin: 12px 0 0; }
@media (max-width: 640px) { figure { grid-template-columns: 1fr; gap: 4px; } main { padding: 24px 14px 48px; } }
@media print { body { background: none; } section { break-inside: avoid; } }
"""
