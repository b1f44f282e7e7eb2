// Scores of two groups and their nearest fair ones: min sum (y - z)^2 / 2 with |mean_a y - mean_b y| <= tolerance, lo <= y <= hi.
// The answer is y_i = clip(z_i -+ price / n_group); the gap falls as the price grows, so the price is found by halving an interval.

function mean(values) {
  return values.reduce((sum, v) => sum + v, 0) / values.length;
}

function moved(scores, shift, lo, hi) {
  return scores.map((z) => Math.min(hi, Math.max(lo, z - shift)));
}

function project(a, b, tolerance, lo, hi) {
  const sign = mean(a) >= mean(b) ? 1 : -1; // the group with the higher mean goes down
  const at = (price) => ({
    price,
    a: moved(a, (sign * price) / a.length, lo, hi),
    b: moved(b, (-sign * price) / b.length, lo, hi),
  });
  const gap = (answer) => sign * (mean(answer.a) - mean(answer.b));
  let low = 0;
  let high = (hi - lo) * Math.max(a.length, b.length);
  if (gap(at(0)) <= tolerance) return { ...at(0), gap: Math.abs(gap(at(0))) };
  for (let k = 0; k < 100; k += 1) {
    const middle = (low + high) / 2;
    if (gap(at(middle)) > tolerance) low = middle;
    else high = middle;
  }
  const answer = at(high);
  return { ...answer, gap: Math.abs(gap(answer)) };
}

// Normal scores by Box and Muller from a small generator, so that the figure is the same for everybody.
function draw(count, centre, seed) {
  let state = seed;
  const uniform = () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
  return Array.from({ length: count }, () => {
    const z = Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
    return Math.min(1, Math.max(0, centre + 0.18 * z));
  });
}

function show(figure) {
  const slider = figure.querySelector("input");
  const svg = figure.querySelector("svg");
  const words = figure.querySelector("output");
  const groups = { a: draw(40, 0.35, 11), b: draw(60, 0.65, 29) };
  const x = (v) => 30 + 540 * v;
  const rows = { a: 50, b: 120 };
  const redraw = () => {
    const tolerance = Number(slider.value);
    const fair = project(groups.a, groups.b, tolerance, 0, 1);
    const marks = ["a", "b"].map((g) => {
      const before = groups[g].map((v) => `<circle cx="${x(v)}" cy="${rows[g]}" r="3" class="before"/>`);
      const after = fair[g].map((v) => `<circle cx="${x(v)}" cy="${rows[g] + 22}" r="3" class="${g}"/>`);
      const m = mean(fair[g]);
      const line = `<line x1="${x(m)}" x2="${x(m)}" y1="${rows[g] + 10}" y2="${rows[g] + 34}" class="${g}"/>`;
      return before.join("") + after.join("") + line + `<text x="4" y="${rows[g] + 12}">${g}</text>`;
    });
    const axis = [0, 0.25, 0.5, 0.75, 1].map((v) => `<text x="${x(v)}" y="185" text-anchor="middle">${v}</text>`);
    svg.innerHTML = marks.join("") + axis.join("");
    words.textContent =
      `tolerance ${tolerance.toFixed(3)}   means ${mean(fair.a).toFixed(4)} and ${mean(fair.b).toFixed(4)}   ` +
      `gap ${fair.gap.toFixed(4)}   price ${fair.price.toFixed(4)}`;
  };
  slider.addEventListener("input", redraw);
  redraw();
}

if (typeof document !== "undefined") {
  document.querySelectorAll(".moving").forEach(show);
} else {
  module.exports = { project, draw };
}
