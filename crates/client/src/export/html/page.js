'use strict';
document.addEventListener('DOMContentLoaded', () => {
  const by = (id) => document.getElementById(id), root = document.documentElement;
  document.querySelector('.tools').hidden = false;
  for (const time of document.querySelectorAll('time')) {
    const at = new Date(time.dateTime);
    if (!isNaN(at)) time.textContent = at.toLocaleString();
  }
  by('wrap').onchange = (event) => root.classList.toggle('nowrap', !event.target.checked);
  by('failed').onchange = (event) => root.classList.toggle('onlybad', event.target.checked);
  by('theme').onclick = () => {
    const dark = root.classList.contains('dark') ||
      (!root.classList.contains('light') && matchMedia('(prefers-color-scheme:dark)').matches);
    root.classList.toggle('dark', !dark);
    root.classList.toggle('light', dark);
  };
  const all = document.querySelectorAll('details'), fold = by('all');
  fold.hidden = all.length === 0;
  fold.onclick = () => {
    const open = fold.textContent.startsWith('expand');
    all.forEach((one) => { one.open = open; });
    fold.textContent = open ? 'collapse all' : 'expand all';
  };
  const show = () => {
    const target = /^#c\d+$/.test(location.hash) && by(location.hash.slice(1));
    if (target) target.open = true;
  };
  addEventListener('hashchange', show);
  show();

  // The search: places in the text of each block, of which the newest search's first thousand are marked.
  const places_max = 100000, marks_max = 1000;
  let places = [], at = -1, last = '';
  const range = ([block, from, length]) => {
    const walk = document.createTreeWalker(block, NodeFilter.SHOW_TEXT), found = document.createRange();
    let passed = 0, begun = false;
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
      const size = node.data.length;
      if (!begun && from < passed + size) { found.setStart(node, from - passed); begun = true; }
      if (begun && from + length <= passed + size) { found.setEnd(node, from + length - passed); return found; }
      passed += size;
    }
    return null;
  };
  const mark = (name, ranges) => {
    if (!globalThis.CSS || !CSS.highlights) return;
    CSS.highlights.set(name, new Highlight(...ranges.filter(Boolean)));
  };
  const search = (text) => {
    last = text; places = []; at = -1;
    const needle = text.toLowerCase();
    if (needle) {
      for (const block of document.querySelectorAll('pre, summary code')) {
        const hay = block.textContent.toLowerCase();
        for (let i = hay.indexOf(needle); i >= 0 && places.length < places_max; i = hay.indexOf(needle, i + needle.length)) {
          places.push([block, i, needle.length]);
        }
      }
    }
    mark('hits', places.slice(0, marks_max).map(range));
  };
  const go = (step) => {
    if (by('find').value !== last) search(by('find').value);
    if (places.length) {
      at = (at + step + places.length) % places.length;
      const block = places[at][0], details = block.closest('details');
      if (details) details.open = true;
      block.scrollIntoView({ block: 'nearest' });
      const found = range(places[at]);
      if (found) {
        mark('hot', [found]);
        const selection = getSelection();
        if (!globalThis.CSS || !CSS.highlights) { selection.removeAllRanges(); selection.addRange(found); }
        requestAnimationFrame(() => {
          const box = found.getBoundingClientRect();
          scrollBy(0, box.top - innerHeight / 2);
        });
      }
    } else mark('hot', []);
    const more = places.length === places_max ? '+' : '';
    by('found').textContent = last ? (places.length ? `${at + 1}/${places.length}${more}` : 'nothing') : '';
  };
  by('next').onclick = () => go(1);
  by('prev').onclick = () => go(-1);
  by('find').onkeydown = (event) => { if (event.key === 'Enter') go(event.shiftKey ? -1 : 1); };
  by('find').oninput = (event) => { if (!event.target.value) { search(''); go(0); } };
});
