"use strict";
(() => {
  const root = document.documentElement;
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

  const theme = document.getElementById("theme");
  const name = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  theme.hidden = false;
  name();
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });

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
