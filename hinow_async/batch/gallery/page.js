
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const find = byId("find"), bar = byId("bar"), count = byId("count"), clear = byId("clear");
  const large = byId("large"), big = byId("big");
  const selects = [...bar.querySelectorAll("select")];
  const folded = (text) => text.normalize("NFKC").toLowerCase();

  const cards = [...document.querySelectorAll(".card")].map((element) => {
    const facets = new Map();
    for (const name of element.querySelectorAll(".facet dt")) {
      // The first of a name is the card's own; a parameter may have the same.
      if (!facets.has(name.dataset.name)) facets.set(name.dataset.name, name.nextElementSibling.textContent);
    }
    const said = element.querySelectorAll(".prompt, .message, .shot, [data-name=id] + dd");
    const words = folded([...said].map((part) => part.textContent).join("\n"));
    const isPicture = Boolean(element.closest("#pictures"));
    return { element, facets, words, isPicture, shot: element.querySelector(".shot") };
  });
  const shown = () => cards.filter((card) => !card.element.hidden);

  // -- filter

  const fits = (card, terms, wanted) =>
    terms.every((term) => card.words.includes(term)) &&
    wanted.every(([name, value]) => {
      const has = card.facets.get(name);
      if (has === undefined) return value === "-" && card.isPicture;
      return "=" + has === value;
    });

  const apply = () => {
    const terms = folded(find.value).split(/\s+/u).filter(Boolean);
    const wanted = selects.filter((select) => select.value).map((select) => [select.dataset.facet, select.value]);
    for (const card of cards) card.element.hidden = !fits(card, terms, wanted);
    const left = shown().length;
    for (const section of document.querySelectorAll("section")) {
      section.hidden = !section.querySelector(".card:not([hidden])");
    }
    count.textContent = `${left} of ${cards.length} shown`;
    clear.hidden = !(terms.length || wanted.length);
    byId("nothing").hidden = left > 0;
  };

  bar.addEventListener("input", apply);
  bar.addEventListener("submit", (event) => event.preventDefault());
  bar.addEventListener("reset", () => setTimeout(() => { apply(); find.focus(); }));

  // -- the large view

  let current = null;

  const enlarge = (card) => {
    current = card;
    const small = card.shot.querySelector("img");
    large.classList.toggle("wordy", !small);
    big.parentElement.hidden = byId("open").hidden = !small;
    if (small) {
      const whole = new Image();
      whole.onload = () => { if (current === card) big.src = whole.src; };
      big.src = small.src;
      big.alt = small.alt;
      whole.src = byId("open").href = card.shot.href;
    }
    const words = card.element.querySelector(".words").cloneNode(true);
    if (!small) words.prepend(...[...card.shot.childNodes].map((node) => node.cloneNode(true)));
    byId("words").replaceChildren(words);
    byId("words").scrollTop = 0;
    if (!large.open) large.showModal();
    const all = shown();
    byId("before").disabled = all[0] === card;
    byId("after").disabled = all.at(-1) === card;
  };
  const turn = (step) => {
    const all = shown();
    const next = all[all.indexOf(current) + step];
    if (next) enlarge(next);
  };

  for (const card of cards) {
    card.shot.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      enlarge(card);
    });
  }
  byId("before").addEventListener("click", () => turn(-1));
  byId("after").addEventListener("click", () => turn(1));
  byId("close").addEventListener("click", () => large.close());
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  // The event comes late: by then the view may be open again.
  large.addEventListener("close", () => {
    if (large.open) return;
    focus(current);
    current = null;
  });

  // -- keys

  const focus = (card) => {
    card.shot.focus({ preventScroll: true });
    card.element.scrollIntoView({ block: "nearest" });
  };
  const box = (card) => card.element.getBoundingClientRect();

  // The card of the next or the last row that lies nearest below or above.
  const inRow = (all, card, step) => {
    const from = box(card);
    const beyond = all.filter((other) => (box(other).top - from.top) * step > 1);
    if (!beyond.length) return null;
    const row = box(step > 0 ? beyond[0] : beyond.at(-1)).top;
    const aside = (other) => Math.abs(box(other).left - from.left);
    return beyond
      .filter((other) => Math.abs(box(other).top - row) < 2)
      .reduce((best, other) => (aside(other) < aside(best) ? other : best));
  };
  const moves = {
    j: (all, at) => all[at + 1], ArrowRight: (all, at) => all[at + 1],
    k: (all, at) => all[at - 1], ArrowLeft: (all, at) => all[at - 1],
    ArrowDown: (all, at) => inRow(all, all[at], 1), ArrowUp: (all, at) => inRow(all, all[at], -1),
    Home: (all) => all[0], End: (all) => all.at(-1),
  };
  const move = (key) => {
    const all = shown();
    const at = all.findIndex((card) => card.element.contains(document.activeElement));
    const isFirst = at < 0 && key !== "Home" && key !== "End";
    const next = isFirst ? all.find((card) => box(card).bottom > bar.offsetHeight) : moves[key](all, at);
    if (next) focus(next);
    return Boolean(next);
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const key = event.key;
    if (large.open) {
      const step = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[key];
      if (step) { turn(step); event.preventDefault(); }
      return;
    }
    if (event.target === find) {
      if (key === "ArrowDown" || key === "Enter") { if (move("Home")) event.preventDefault(); }
      else if (key === "Escape" && !find.value) find.blur();
      return;
    }
    if (event.target.closest("select, details")) return;
    if (key === "/") { find.focus(); find.select(); event.preventDefault(); }
    else if (Object.hasOwn(moves, key) && move(key)) event.preventDefault();
  });

  document.documentElement.classList.add("js");
  bar.hidden = false;
  apply();
})();
