"""The style sheet and the script that are written into report.html. Used by `page` only."""

CSS = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5c636b; --rule: #d9dce0;
  --paper: #ffffff; --panel: #f6f7f8; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e7e9; --soft: #a2a8b0; --rule: #3a3f46; --paper: #16181b;
    --panel: #1e2125; --link: #7db7f0; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; font-weight: 650; }
h2 { font-size: 1.15rem; margin: 3rem 0 .75rem; font-weight: 650; }
h3 { font-size: 1rem; margin: 1.75rem 0 .5rem; font-weight: 600; }
p { max-width: 52rem; margin: .6rem 0; overflow-wrap: break-word; }
.lead { font-size: 1.06rem; }
.note, figcaption, footer { color: var(--soft); font-size: .875rem; }
.warn { border-left: 3px solid #d55e00; padding-left: .75rem; color: var(--ink); }
/* A shadow at the side where there is more to see. */
.scroll { overflow-x: auto; margin: 1rem 0 .75rem; background:
  linear-gradient(to right, var(--paper) 30%, transparent) left / 2.5rem 100%,
  linear-gradient(to left, var(--paper) 30%, transparent) right / 2.5rem 100%,
  linear-gradient(to right, var(--rule), transparent) left / .6rem 100%,
  linear-gradient(to left, var(--rule), transparent) right / .6rem 100%;
  background-repeat: no-repeat; background-attachment: local, local, scroll, scroll; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .6rem; text-align: right; white-space: nowrap; }
th.text, td.text { text-align: left; }
th { vertical-align: bottom; border-bottom: 1px solid var(--soft); font-weight: 600;
  white-space: normal; min-width: 4.6rem; line-height: 1.3; text-wrap: balance; }
td { border-bottom: 1px solid var(--rule); }
a { color: var(--link); }
td:first-child { font-weight: 550; }
td.remark { text-align: left; color: var(--soft); font-style: italic; }
th button { all: unset; cursor: pointer; }
th button:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; }
th[aria-sort] button::after { content: " \\2191"; }
th[aria-sort="descending"] button::after { content: " \\2193"; }
figure { margin: 0; }
figure svg { display: block; width: 100%; min-width: 52rem; height: auto; }
figure svg text { font-family: inherit !important; }
details { border-bottom: 1px solid var(--rule); padding: .5rem 0; }
summary { cursor: pointer; overflow-wrap: anywhere; }
summary span { color: var(--soft); font-size: .9rem; }
details:target > summary { color: var(--link); }
dl { display: grid; grid-template-columns: minmax(6.5rem, max-content) 1fr; gap: .3rem 1rem;
  margin: .6rem 0 .6rem; font-size: .9rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
dl.terms { max-width: 50rem; gap: .6rem 1.25rem; }
code { font: .85em ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
footer { margin-top: 3rem; }
@media (max-width: 34rem) {
  main { padding: 1.5rem 1rem 3rem; }
  th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper);
    max-width: 9rem; white-space: normal; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; } }
@media print { details > * { display: block; } }
"""

# Clicking a head sorts its table: numbers by value, largest first, words by the alphabet; rows
# without a number stay last. A link to a run opens it.
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const cellOf = row => row.dataset.remark ? undefined : row.cells[column];
    const numeric = [...body.rows].some(row => cellOf(row)?.dataset.value);
    const before = head.getAttribute("aria-sort");
    const [first, other] = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
    const order = before === first ? other : first;
    heads.forEach(h => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const key = row => {
      const cell = cellOf(row);
      if (!cell) return null;
      if (!numeric) return cell.textContent;
      return cell.dataset.value ? Number(cell.dataset.value) : null;
    };
    const rows = [...body.rows];
    rows.sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (numeric ? x - y : x.localeCompare(y, undefined, {numeric: true}));
    });
    body.append(...rows);
  }));
}
const open = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") target.open = true;
};
addEventListener("hashchange", open);
open();
"""
