"use strict";
(() => {
  const root = document.documentElement;
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

  const theme = document.getElementById("theme");
  const name = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  theme.hidden = false;
  name();
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });

  // Every table as LaTeX, made here from what the page shows: nothing is loaded, and it works from the disk.
  const special = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}",
    "|": "\\textbar{}", "[": "{[}", '"': "\\textquotedbl{}", "–": "--", "’": "'", "\u00a0": "~",
  };
  const escaped = (text) => Array.from(text.replace(/[ \t\r\n]+/g, " ")).map((char) => special[char] || char).join("");
  const cellText = (node) => {
    if (node.nodeType === Node.TEXT_NODE) return escaped(node.data);
    if (node.nodeType !== Node.ELEMENT_NODE || node.classList.contains("meaning")) return "";
    const inner = Array.from(node.childNodes).map(cellText).join("");
    if (node.tagName === "SMALL") return inner.trim() ? ` {\\scriptsize ${inner.trim()}}` : "";
    return node.tagName === "STRONG" ? `\\textbf{${inner}}` : inner;
  };
  const rowText = (row) => Array.from(row.cells).map((cell) => cellText(cell).replace(/ +/g, " ").trim()).join(" & ") + " \\\\";
  const latex = (table) => {
    const bodies = Array.from(table.tBodies).map((body) => Array.from(body.rows).map(rowText).join("\n"));
    const width = table.tHead.rows[0].cells.length;
    return [
      "% needs \\usepackage{booktabs}", `\\begin{tabular}{l${"r".repeat(width - 1)}}`, "\\toprule",
      rowText(table.tHead.rows[0]), "\\midrule", bodies.join("\n\\midrule\n"), "\\bottomrule", "\\end{tabular}", "",
    ].join("\n");
  };
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without permission, or in a browser that has no clipboard for files.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      if (!done) throw new Error("no clipboard");
    }
  };
  for (const table of document.querySelectorAll("table")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy as LaTeX";
    const said = document.createElement("span");
    said.setAttribute("role", "status");
    said.className = "note";
    button.addEventListener("click", async () => {
      try {
        await copy(latex(table));
        said.textContent = " Copied.";
      } catch {
        said.textContent = " The browser does not allow copying.";
      }
    });
    const line = document.createElement("p");
    line.className = "copy-line";
    line.append(button, said);
    table.parentElement.after(line);
  }

  const list = document.getElementById("cards");
  if (!list) return;
  const cards = Array.from(list.children);
  const texts = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));
  const search = document.getElementById("search");
  const sort = document.getElementById("sort");
  const shown = document.getElementById("shown");
  const nothing = document.getElementById("nothing");
  const fault = document.getElementById("fault");

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const card of cards) {
      const kinds = card.dataset.faults.split("|").filter(Boolean);
      const wanted = fault ? fault.value : "";
      const kind = !wanted || (wanted === "none" ? kinds.length === 0 : kinds.includes(wanted));
      const keep = kind && words.every((word) => texts.get(card).includes(word));
      card.hidden = !keep;
      count += keep ? 1 : 0;
    }
    shown.textContent = count === 1 ? "1 picture" : `${count} pictures`;
    nothing.hidden = count > 0;
  };

  const order = () => {
    const [key, direction] = sort.value.split("-");
    const sign = direction === "down" ? -1 : 1;
    // What has no value goes to the end, whichever way is sorted.
    const value = (card) => (key in card.dataset ? sign * Number(card.dataset[key]) : Infinity);
    const sorted = cards.slice().sort((one, other) => {
      const [left, right] = [value(one), value(other)];
      return left === right ? Number(one.dataset.number) - Number(other.dataset.number) : left < right ? -1 : 1;
    });
    list.append(...sorted);
  };

  search.addEventListener("input", filter);
  sort.addEventListener("change", order);
  if (fault) fault.addEventListener("change", filter);
  const controls = document.getElementById("controls");
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.hidden = false;
  filter();
})();
