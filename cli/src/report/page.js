"use strict";
(() => {
  const box = document.getElementById("filter");
  if (!box) return;
  const start = "#filter=";
  const shown = document.getElementById("shown");
  const groups = Array.from(document.getElementById("list").children);
  const items = groups.flatMap((group) => Array.from(group.children));
  let texts;
  const filter = (wanted) => {
    const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length > 0) texts ??= items.map((item) => item.textContent.toLowerCase());
    let count = 0;
    items.forEach((item, index) => {
      const fits = words.every((word) => texts[index].includes(word));
      if (item.hidden === fits) item.hidden = !fits;
      if (fits) count += 1;
    });
    for (const group of groups) {
      const fit = Array.from(group.children).filter((item) => !item.hidden).length;
      group.hidden = fit === 0;
      group.style.containIntrinsicHeight = `auto ${fit * 2.6}rem`;
    }
    shown.textContent = words.length > 0 ? `${count} of ${items.length}` : `${items.length} in all`;
  };
  // A view is linked to by #filter=WORDS, a failure by #failure-NUMBER.
  const follow = () => {
    if (location.hash.startsWith(start)) {
      let wanted = location.hash.slice(start.length);
      try {
        wanted = decodeURIComponent(wanted);
      } catch {
        // It is taken as it stands.
      }
      box.value = wanted;
      filter(wanted);
      return;
    }
    const target = document.getElementById(location.hash.slice(1));
    if (!items.includes(target)) return;
    if (target.hidden) {
      box.value = "";
      filter("");
    }
    target.firstElementChild.open = true;
    target.scrollIntoView();
  };
  let waiting;
  box.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      filter(box.value);
      history.replaceState(null, "", box.value ? start + encodeURIComponent(box.value) : "#failures");
    }, 100);
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && event.target !== box && !event.ctrlKey && !event.altKey && !event.metaKey) {
      event.preventDefault();
      box.focus();
    }
  });
  addEventListener("hashchange", follow);
  document.getElementById("search").hidden = false;
  filter("");
  follow();
})();
