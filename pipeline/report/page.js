// What the page does beyond showing: a switch for dark and light, tables that sort and download, a search in the samples.
// Without it nothing is missing that can be read. Whatever comes from documents is set as text here, never as markup.
"use strict";

function make(tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

// ---- dark and light ----

function addThemeSwitch() {
  const root = document.documentElement;
  const isDark = () =>
    (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const button = make("button", { type: "button", class: "theme" });
  const show = () => (button.textContent = isDark() ? "Light" : "Dark");
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    show();
  });
  show();
  document.querySelector("header.top").prepend(button);
}

// ---- tables ----

const UNITS = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, PB: 1e15, s: 1, min: 60, h: 3600 };
const LETTERS = { "": 1, k: 1e3, M: 1e6, B: 1e9, T: 1e12 };
const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

// The number that a cell shows, as the program writes numbers: 12,345; 1.20 MB; 7.40M; 81.2 %; 2.18 × 10¹⁴; null for none.
function numberIn(text) {
  const found = text.trim().match(/^([<>]?)([-+−]?[\d,]*\.?\d+(?:e[-+]?\d+)?)([kMBT]?)(?: × 10(⁻?)([⁰¹²³⁴-⁹]+))?(?: (%|[a-zA-Z]+))?/);
  if (!found) return null;
  const [, side, digits, letter, sign, raised, unit] = found;
  let value = Number(digits.replaceAll(",", "").replace("−", "-")) * LETTERS[letter] * (UNITS[unit] ?? 1);
  if (raised) value *= 10 ** ((sign ? -1 : 1) * Number([...raised].map((digit) => RAISED.indexOf(digit)).join("")));
  return value + (side === "<" ? -1e-9 : side === ">" ? 1e-9 : 0);
}

const cellsOf = (row) => [...row.cells].filter((cell) => !cell.classList.contains("bar"));
const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function csv(table) {
  return [...table.rows].map((row) => cellsOf(row).map((cell) => quoted(cell.textContent)).join(",") + "\r\n").join("");
}

// The nearest heading before the table in its section names it.
function nameOf(table) {
  const headings = [...table.closest("section").querySelectorAll("h2, h3, h4, summary")];
  const before = headings.filter((one) => one.compareDocumentPosition(table) & Node.DOCUMENT_POSITION_FOLLOWING);
  const title = (before.at(-1) ?? table.closest("section")).textContent;
  return title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "table";
}

function download(name, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  URL.revokeObjectURL(link.href);
}

function compare(one, other, numeric) {
  if (!numeric) return one.localeCompare(other, undefined, { numeric: true });
  const [a, b] = [numberIn(one), numberIn(other)];
  if (a === null || b === null) return (a === null) - (b === null);
  return a - b;
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const totals = original.filter((row) => row.classList.contains("total"));
  const rows = original.filter((row) => !row.classList.contains("total"));
  if (rows.length < 2) return;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (head.classList.contains("bar") || !head.textContent) return;
    const button = make("button", { type: "button", class: "sort" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("n");
      const orders = numeric ? ["descending", "ascending", ""] : ["ascending", "descending", ""];
      const order = orders[(orders.indexOf(head.getAttribute("aria-sort") ?? "") + 1) % 3];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (order) head.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const text = (row) => row.cells[column].textContent;
      const known = (row) => !numeric || numberIn(text(row)) !== null;
      const sorted = order
        ? rows.toSorted((a, b) => known(b) - known(a) || sign * compare(text(a), text(b), numeric))
        : rows;
      body.append(...sorted, ...totals);
    });
  });
}

function addTableTools() {
  for (const table of document.querySelectorAll(".scroll > table")) {
    makeSortable(table);
    const button = make("button", { type: "button", class: "csv" }, "CSV");
    const name = nameOf(table);
    button.title = `Download this table as ${name}.csv`;
    button.addEventListener("click", () => download(`${name}.csv`, csv(table)));
    if (table.closest(".grid")) table.parentElement.append(button); // after it would be a cell of its own
    else table.parentElement.after(button);
  }
}

// ---- search in the samples ----

function addSearch() {
  const section = document.getElementById("dropped");
  if (!section) return;
  const groups = [...section.querySelectorAll("details")];
  const opened = groups.filter((group) => group.open);
  const search = make("input", { type: "search", placeholder: "Search in these documents", "aria-label": "Search" });
  const rules = make("select", { "aria-label": "Rule" });
  rules.append(new Option("Every rule", ""));
  groups.forEach((group, index) => rules.append(new Option(group.dataset.rule, index)));
  const close = make("input", { type: "checkbox" });
  const label = make("label");
  label.append(close, " close calls only");
  const found = make("output", { class: "small soft" });
  const tools = make("form", { class: "tools", role: "search" });
  tools.append(search, rules, label, found);
  tools.addEventListener("submit", (event) => event.preventDefault());
  section.querySelector(".intro").after(tools);

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = !words.length && !close.checked && rules.value === "";
    let shown = 0;
    let total = 0;
    groups.forEach((group, index) => {
      let inGroup = 0;
      for (const card of group.querySelectorAll(".sample")) {
        const text = card.textContent.toLowerCase();
        const fits =
          (rules.value === "" || Number(rules.value) === index) &&
          (!close.checked || card.querySelector(".tag") !== null) &&
          words.every((word) => text.includes(word));
        card.hidden = !fits;
        inGroup += fits;
        total += 1;
      }
      group.hidden = !inGroup;
      group.open = all ? opened.includes(group) : inGroup > 0;
      shown += inGroup;
    });
    for (const heading of section.querySelectorAll("h3")) {
      let next = heading.nextElementSibling;
      let any = false;
      for (; next && next.tagName === "DETAILS"; next = next.nextElementSibling) any ||= !next.hidden;
      heading.hidden = !any;
    }
    found.textContent = `${shown} of ${total} shown`;
  }
  tools.addEventListener("input", filter);
  filter();
}

// Browsers print only what is unfolded.
addEventListener("beforeprint", () => {
  for (const group of document.querySelectorAll("details:not([open])")) {
    group.open = true;
    group.dataset.printed = "";
  }
});
addEventListener("afterprint", () => {
  for (const group of document.querySelectorAll("details[data-printed]")) {
    group.open = false;
    delete group.dataset.printed;
  }
});

addThemeSwitch();
addTableTools();
addSearch();
