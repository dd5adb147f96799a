// The live page of the admin endpoint. It asks /stats every two seconds and makes rates of the counts;
// whatever came from a peer is set as text, never as markup.
"use strict";

const PERIOD = 2000;
const PATIENCE = 5000;
const CERTS_PERIOD = 60000;
const SAMPLES = 90;
const ROWS = 50;
const history = [];
let last = null;
let paused = false;
let sort = { by: "open", down: true };
let nextPage = null;
/** What the table of tenants was last made from. */
let shown = null;

const find = (id) => document.getElementById(id);

function put(node, text) {
  const value = String(text);
  if (node.textContent !== value) node.textContent = value;
}

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// ---------------------------------------------------------------- words for numbers

function count(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(value >= 1e7 ? 0 : 1)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(value >= 1e5 ? 0 : 1)}k`;
  return String(Math.round(value));
}

function rate(value) {
  return value > 0 && value < 10 ? value.toFixed(1) : count(value);
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${value < 10 && at > 0 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

function span(seconds) {
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const at = Math.max(0, parts.findIndex(([, unit]) => seconds >= unit));
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  const [unit, size] = parts[at];
  const whole = Math.floor(seconds / size);
  const rest = parts[at + 1] ? Math.floor((seconds % size) / parts[at + 1][1]) : 0;
  return rest > 0 && whole < 10 ? `${whole} ${unit} ${rest} ${parts[at + 1][0]}` : `${whole} ${unit}`;
}

function milliseconds(seconds) {
  if (seconds === null) return "–";
  return seconds < 1 ? `${Number((seconds * 1000).toPrecision(2))} ms` : `${Number(seconds.toPrecision(2))} s`;
}

// ---------------------------------------------------------------- from counts to rates

/** By how much a count grew in a second; a count that went back began anew. */
function grown(now, before, seconds) {
  return before === undefined || now < before || seconds <= 0 ? 0 : (now - before) / seconds;
}

/** The time that a share of those between two histograms took at most; null where there was none. */
function quantile(share, bounds, now, before) {
  const counts = now.map((value, at) => Math.max(0, value - ((before && before[at]) || 0)));
  const all = counts.reduce((sum, value) => sum + value, 0);
  if (all === 0) return null;
  let seen = 0;
  for (let at = 0; at < counts.length; at += 1) {
    const low = at > 0 ? bounds[at - 1] : 0;
    if (seen + counts[at] >= share * all) {
      if (at >= bounds.length) return bounds[bounds.length - 1];
      return low + (bounds[at] - low) * ((share * all - seen) / counts[at]);
    }
    seen += counts[at];
  }
  return bounds[bounds.length - 1];
}

function sample(stats, before) {
  const seconds = before ? (stats.now_milliseconds - before.now_milliseconds) / 1000 : 0;
  const of = (key) => grown(stats.process[key], before ? before.process[key] : undefined, seconds);
  const sum = (table) => Object.values(table).reduce((all, value) => all + value, 0);
  return {
    seconds,
    full: of("handshakes_full"),
    resumed: of("handshakes_resumed"),
    received: of("bytes_received"),
    sent: of("bytes_sent"),
    refusals: grown(sum(stats.refusals), before ? sum(before.refusals) : undefined, seconds),
  };
}

// ---------------------------------------------------------------- rows that stay what they are

/** Makes `body` show `items`, one row each, and touches only what differs. */
function rows(body, items, key, columns) {
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  items.forEach((item, at) => {
    const name = key(item);
    let row = known.get(name);
    if (!row) {
      row = document.createElement("tr");
      row.dataset.key = name;
      columns.forEach(([, className]) => row.append(make("td", className)));
    }
    known.delete(name);
    columns.forEach(([show], column) => show(row.cells[column], item));
    if (body.rows[at] !== row) body.insertBefore(row, body.rows[at] || null);
  });
  known.forEach((row) => row.remove());
}

const text = (of) => (cell, item) => put(cell, of(item));

/** A share from 0 to 1 as a bar; it says nothing that is not said in words beside it. */
function meter(cell, share, className) {
  let bar = cell.firstElementChild;
  if (!bar) {
    bar = make("span", "meter");
    bar.setAttribute("aria-hidden", "true");
    bar.append(make("i"));
    cell.append(bar);
  }
  bar.firstElementChild.className = className || "";
  bar.firstElementChild.style.width = `${Math.min(100, Math.max(0, share * 100)).toFixed(1)}%`;
}

function badge(cell, words, className) {
  let node = cell.firstElementChild;
  if (!node) { node = make("span"); cell.append(node); }
  node.className = `badge ${className}`;
  put(node, words);
}

// ---------------------------------------------------------------- charts

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 150;

function svg(tag, attributes, parent) {
  const node = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
  parent.append(node);
  return node;
}

/** The next of 1, 2, 5, 10, … that is not below `value`; of bytes the same in powers of 1024. */
function ceiling(value, isBytes) {
  let unit = 1;
  if (isBytes) while (value >= 1024 * unit) unit *= 1024;
  const decade = 10 ** Math.floor(Math.log10(Math.max(1, value / unit)));
  return unit * decade * [1, 2, 5, 10].find((step) => step * decade >= value / unit);
}

function chart(box, name, keys, show, isBytes) {
  let picture = box.firstElementChild;
  if (!picture) {
    picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, box);
    [0, 0.5, 1].forEach((part) => {
      const y = HEIGHT - part * HEIGHT;
      svg("line", { x1: 0, x2: WIDTH, y1: y, y2: y }, picture);
    });
    keys.forEach((_, at) => {
      svg("path", { class: `area ${at ? "two" : "one"}` }, picture);
      svg("path", { class: at ? "two" : "one" }, picture);
    });
    box.append(make("p", "axis"));
  }
  const top = ceiling(Math.max(1, ...history.map((one) => Math.max(...keys.map((key) => one[key])))), isBytes);
  keys.forEach((key, at) => {
    const points = history.map((one, place) => {
      const x = WIDTH * (1 - (history.length - 1 - place) / (SAMPLES - 1));
      return `${x.toFixed(1)},${(HEIGHT - HEIGHT * (one[key] / top)).toFixed(1)}`;
    });
    const [area, line] = [...picture.querySelectorAll("path")].slice(2 * at);
    line.setAttribute("d", points.length > 1 ? `M${points.join("L")}` : "");
    const from = points.length > 1 ? points[0].split(",")[0] : 0;
    area.setAttribute("d", points.length > 1 ? `M${from},${HEIGHT}L${points.join("L")}L${WIDTH},${HEIGHT}Z` : "");
  });
  const latest = history[history.length - 1];
  picture.setAttribute("aria-label", `${name}: ${keys.map((key) => `${key} ${show(latest[key])}`).join(", ")}`);
  put(box.lastElementChild, `${show(top)} at the top, the last ${span((PERIOD / 1000) * SAMPLES)}`);
}

// ---------------------------------------------------------------- the parts of the page

function tiles(stats, now) {
  const { process } = stats;
  const made = now.full + now.resumed;
  put(find("tile-handshakes"), rate(made));
  const share = made > 0 ? `${Math.round((100 * now.resumed) / made)} % resumed` : `${process.handshakes_in_flight} in flight`;
  put(find("tile-handshakes-note"), share);
  put(find("tile-refusals"), rate(now.refusals));
  const refused = Object.values(stats.refusals).reduce((all, value) => all + value, 0);
  put(find("tile-refusals-note"), `${count(refused)} since the start`);
  put(find("tile-bytes"), `${bytes(now.received + now.sent)}/s`);
  put(find("tile-bytes-note"), `${bytes(process.bytes_received + process.bytes_sent)} in all`);
  put(find("tile-sessions"), count(process.sessions_open));
  put(find("tile-sessions-note"), `${count(process.connections_open)} connections`);
  const times = stats.handshake_seconds;
  const base = history.length > 15 ? history[history.length - 15].times : null;
  const both = (all) => all && all.full.map((value, at) => value + all.resumed[at]);
  const [half, most] = [0.5, 0.99].map((part) => quantile(part, times.bounds, both(times) || [], both(base)));
  put(find("tile-latency"), milliseconds(half));
  put(find("tile-latency-note"), most === null ? "none lately" : `p99 ${milliseconds(most)}`);
  put(find("tile-memory"), bytes(process.memory_bytes || 0));
  const limit = process.memory_limit_bytes;
  put(find("tile-memory-note"), limit ? `limit ${bytes(limit)}, pressure ${process.memory_pressure}` : "no limit set");
}

function refusals(stats, before, seconds) {
  const items = Object.entries(stats.refusals).map(([reason, all]) => ({
    reason, all, now: grown(all, before ? before.refusals[reason] || 0 : undefined, seconds),
  }));
  items.sort((one, other) => other.all - one.all);
  const most = items.length ? items[0].all : 1;
  rows(find("refusals").tBodies[0], items, (item) => item.reason, [
    [text((item) => item.reason), ""],
    [text((item) => rate(item.now)), "number"],
    [text((item) => count(item.all)), "number"],
    [(cell, item) => meter(cell, item.all / most), "bar"],
  ]);
  emptied(find("refusals"), items.length === 0);
}

function emptied(table, isEmpty) {
  const card = table.closest("section");
  card.querySelector(".scroll").hidden = isEmpty;
  card.querySelector(".empty").hidden = !isEmpty;
}

function workers(stats, before, seconds) {
  const items = stats.workers.map((one, at) => {
    const old = before ? before.workers[at] || {} : {};
    const part = (key) => (one[key] === null ? null : grown(one[key], old[key] ?? undefined, seconds));
    return { ...one, load: part("cpu_seconds"), wait: part("wait_seconds"), rate: grown(one.accepted, old.accepted, seconds) };
  });
  const percent = (value) => (value === null ? "–" : `${Math.round(100 * value)} %`);
  rows(find("workers").tBodies[0], items, (item) => String(item.worker), [
    [text((item) => item.worker), ""],
    [text((item) => percent(item.load)), "number"],
    [(cell, item) => meter(cell, item.load || 0, item.load > 0.9 ? "bad" : item.load > 0.7 ? "warn" : ""), "bar"],
    [text((item) => percent(item.wait)), "number"],
    [text((item) => count(item.connections_open)), "number"],
    [text((item) => rate(item.rate)), "number"],
  ]);
}

function chains(stats, before, seconds) {
  const known = new Map((before ? before.chains : []).map((one) => [`${one.listener}/${one.name}`, one]));
  const wanted = find("chain-filter").value.trim().toLowerCase();
  const items = stats.chains.map((one) => {
    const name = `${one.listener}/${one.name}`;
    const old = known.get(name) || {};
    const all = one.handshakes_full + one.handshakes_resumed;
    return {
      name, open: one.sessions_open, sessions: one.sessions,
      handshakes: grown(all, old.name && old.handshakes_full + old.handshakes_resumed, seconds),
      resumed: all ? one.handshakes_resumed / all : -1,
      received: grown(one.bytes_received, old.bytes_received, seconds),
      sent: grown(one.bytes_sent, old.bytes_sent, seconds),
    };
  }).filter((item) => item.name.toLowerCase().includes(wanted));
  items.sort((one, other) => {
    const [a, b] = [one[sort.by], other[sort.by]];
    const order = typeof a === "string" ? a.localeCompare(b) : a - b;
    return (sort.down ? -order : order) || one.name.localeCompare(other.name);
  });
  rows(find("chains").tBodies[0], items.slice(0, ROWS), (item) => item.name, [
    [(cell, item) => {
      if (cell.childElementCount) return;
      const [listener, ...rest] = item.name.split("/");
      cell.append(make("small", "", `${listener} / `), rest.join("/"));
    }, ""],
    [text((item) => count(item.open)), "number"],
    [text((item) => rate(item.handshakes)), "number"],
    [text((item) => (item.resumed < 0 ? "–" : `${Math.round(100 * item.resumed)} %`)), "number"],
    [text((item) => bytes(item.received)), "number"],
    [text((item) => bytes(item.sent)), "number"],
    [text((item) => count(item.sessions)), "number"],
  ]);
  const hidden = stats.chain_count - stats.chains.length + Math.max(0, items.length - ROWS);
  find("chains-more").hidden = hidden === 0;
  put(find("chains-more"), `and ${hidden} more: narrow them down by name, or ask /stats and /metrics`);
}

function clusters(stats) {
  const box = find("clusters");
  const known = new Map([...box.children].map((node) => [node.dataset.name, node]));
  stats.clusters.forEach((cluster, at) => {
    let node = known.get(cluster.name);
    if (!node) { node = clusterCard(cluster.name); }
    known.delete(cluster.name);
    if (box.children[at] !== node) box.insertBefore(node, box.children[at] || null);
    showCluster(node, cluster, stats.workers.length);
  });
  known.forEach((node) => node.remove());
}

function clusterCard(name) {
  const node = make("article", "cluster");
  node.dataset.name = name;
  const head = make("div", "head");
  head.append(make("h3", "", name), make("span", "name"));
  const pool = make("div", "pool");
  pool.append(make("span", "", "ready pool"), make("span"), make("b", "", "–"));
  const table = make("table");
  const top = make("tr");
  [["endpoint", ""], ["state", ""], ["open", "number"], ["dials", "number"], ["failed", "number"]].forEach(([title, className]) => {
    const cell = make("th", className, title);
    cell.scope = "col";
    top.append(cell);
  });
  const thead = make("thead");
  thead.append(top);
  table.append(thead, make("tbody"));
  const scroll = make("div", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", `endpoints of ${name}`);
  scroll.append(table);
  node.append(head, pool, scroll, make("p", "hint"));
  return node;
}

function state(endpoint, workerCount) {
  if (endpoint.health === "unhealthy") return ["✕ unhealthy", "bad"];
  if (endpoint.ejected_by_workers >= workerCount) return ["✕ ejected", "bad"];
  if (endpoint.ejected_by_workers > 0) return [`! ejected by ${endpoint.ejected_by_workers}`, "warn"];
  if (endpoint.health === "healthy") return ["✓ healthy", "good"];
  return [endpoint.health, ""];
}

function showCluster(node, cluster, workerCount) {
  const [head, pool, scroll, hint] = node.children;
  const words = [`${count(cluster.active)} open`];
  if (cluster.pending) words.push(`${count(cluster.pending)} waiting`);
  words.push(cluster.tls ? "TLS" : "plain TCP");
  put(head.lastElementChild, words.join(" · "));
  const most = cluster.ready_max_each_worker * workerCount;
  pool.hidden = most === 0;
  meter(pool.children[1], most ? cluster.ready / most : 0, cluster.ready === 0 ? "warn" : "");
  const asked = cluster.ready_hits + cluster.ready_misses;
  const hits = asked ? `, ${Math.round((100 * cluster.ready_hits) / asked)} % hits` : "";
  put(pool.lastElementChild, `${cluster.ready} of ${most}${hits}`);
  rows(scroll.querySelector("tbody"), cluster.endpoints.slice(0, ROWS), (one) => one.address, [
    [text((one) => (one.host ? `${one.host} (${one.address})` : one.address)), ""],
    [(cell, one) => badge(cell, ...state(one, workerCount)), ""],
    [text((one) => count(one.active)), "number"],
    [text((one) => count(one.dials)), "number"],
    [text((one) => count(one.dial_failures)), "number"],
  ]);
  const more = cluster.endpoint_count - Math.min(ROWS, cluster.endpoints.length);
  hint.hidden = more === 0 && cluster.endpoint_count > 0;
  put(hint, cluster.endpoint_count ? `and ${more} more` : "no endpoint: none of its names has an address");
}

function ends(days) {
  if (days < 0) return [`✕ over for ${span(-days * 86400)}`, "bad"];
  const words = days === 0 ? "today" : `${days} ${days === 1 ? "day" : "days"}`;
  if (days < 7) return [`! ${words}`, "bad"];
  return days < 30 ? [`! ${words}`, "warn"] : [words, "good"];
}

async function certs() {
  if (paused || document.hidden) return;
  try {
    const page = await ask("/certs");
    const items = [...page.certificates].sort((one, other) => one.not_after - other.not_after);
    page.directories.filter((one) => one.earliest).forEach((one) => items.push({
      kind: "directory", name: one.name, subject: `${one.loaded} of ${one.pairs} pairs in memory`, number: 0, ...one.earliest,
    }));
    const kinds = { server: "certificate", client_ca: "client CA", upstream_client: "client certificate", upstream_ca: "upstream CA", crl: "revocation list", staple: "OCSP staple", directory: "directory" };
    rows(find("certs").tBodies[0], items.slice(0, ROWS), (one) => `${one.kind} ${one.name} ${one.file} ${one.number}`, [
      [(cell, one) => badge(cell, ...(/crl|staple/.test(one.kind) && one.days_left >= 0 ? [ends(one.days_left)[0].replace("! ", ""), one.days_left < 1 ? "warn" : "good"] : ends(one.days_left))), ""],
      [text((one) => kinds[one.kind] || one.kind), ""],
      [text((one) => one.subject), "wide"],
      [text((one) => one.name), "wide"],
    ]);
    find("certs-more").hidden = items.length <= ROWS;
    put(find("certs-more"), `and ${items.length - ROWS} more: /certs has all`);
    emptied(find("certs"), items.length === 0);
  } catch (error) {
    // The next look at /stats says that nobody answers.
  }
}

async function connections(after) {
  const note = find("connections-note");
  try {
    const page = await ask(`/connections?limit=50${after ? `&after=${encodeURIComponent(after)}` : ""}`);
    rows(find("connections").tBodies[0], page.connections, (one) => one.id, [
      [text((one) => one.source), ""],
      [text((one) => one.phase), ""],
      [text((one) => one.server_name || "–"), ""],
      [text((one) => one.client || "–"), "wide"],
      [text((one) => (one.chain ? `${one.listener}/${one.chain}` : one.listener)), ""],
      [text((one) => one.upstream || "–"), ""],
      [text((one) => span(one.age_seconds)), "number"],
      [text((one) => bytes(one.bytes_received)), "number"],
      [text((one) => bytes(one.bytes_sent)), "number"],
    ]);
    find("connections").parentElement.hidden = page.connections.length === 0;
    nextPage = page.next;
    const silent = page.workers_silent.length ? `; workers that did not answer: ${page.workers_silent.join(", ")}` : "";
    put(note, `${page.connections.length} shown, ${page.open} open${silent}`);
  } catch (error) {
    nextPage = null;
    put(note, `not known: ${error.message}`);
  }
  find("connections-next").hidden = !nextPage;
  put(find("connections-show"), "Show from the first");
}

// ---------------------------------------------------------------- asking, and acting

async function ask(path, options) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE), ...options });
  if (!answer.ok) throw new Error(`${answer.status} ${(await answer.text()).trim()}`);
  return answer.json();
}

async function order(path) {
  const answer = await fetch(path, { method: "POST", headers: { "X-Portcullis-Admin": "1" } });
  const body = await answer.text();
  put(find("result-title"), answer.ok ? "Done" : "Not done");
  put(find("result-text"), body.trim());
  find("result").showModal();
}

function show(stats) {
  if (last && (last.started !== stats.started || stats.now_milliseconds <= last.now_milliseconds)) {
    last = null;
    history.length = 0;
  }
  const now = sample(stats, last);
  put(find("version"), stats.version);
  put(find("uptime"), span(Math.max(0, stats.now - stats.started)));
  put(find("generation"), stats.generation);
  const look = { ready: "good", draining: "warn" }[stats.readiness] || "";
  find("state").className = `badge ${look}`;
  put(find("state"), stats.readiness);
  if (last) {
    history.push({ ...now, times: stats.handshake_seconds });
    while (history.length > SAMPLES) history.shift();
    tiles(stats, now);
    chart(find("chart-handshakes"), "Handshakes per second", ["full", "resumed"], (value) => `${rate(value)} /s`, false);
    chart(find("chart-bytes"), "Throughput", ["received", "sent"], (value) => `${bytes(value)}/s`, true);
    put(find("legend-full"), `${rate(now.full)} /s`);
    put(find("legend-resumed"), `${rate(now.resumed)} /s`);
    put(find("legend-received"), `${bytes(now.received)}/s`);
    put(find("legend-sent"), `${bytes(now.sent)}/s`);
  }
  refusals(stats, last, now.seconds);
  workers(stats, last, now.seconds);
  shown = [stats, last, now.seconds];
  chains(...shown);
  clusters(stats);
  last = stats;
}

async function look() {
  if (paused || document.hidden) return;
  const notice = find("notice");
  try {
    show(await ask("/stats"));
    notice.hidden = true;
    document.body.classList.remove("stale");
  } catch (error) {
    find("state").className = "badge bad";
    put(find("state"), "no answer");
    put(notice, `The gateway does not answer (${error.message}); the figures are old.`);
    notice.hidden = false;
    document.body.classList.add("stale");
  }
}

async function run() {
  for (;;) {
    await look();
    await new Promise((next) => setTimeout(next, last && history.length === 0 ? 500 : PERIOD));
  }
}

find("pause").addEventListener("click", () => {
  paused = !paused;
  find("pause").setAttribute("aria-pressed", String(paused));
  put(find("pause"), paused ? "Paused" : "Pause");
});
find("reload").addEventListener("click", async () => {
  find("reload").disabled = true;
  try { await order("/reload"); } finally { find("reload").disabled = false; }
});
find("drain").addEventListener("click", () => find("confirm").showModal());
find("confirm").addEventListener("close", () => {
  if (find("confirm").returnValue === "yes") order("/drain");
});
find("connections-show").addEventListener("click", () => connections(null));
find("connections-next").addEventListener("click", () => connections(nextPage));
find("chain-filter").addEventListener("input", () => { if (shown) chains(...shown); });
find("chains").tHead.addEventListener("click", (event) => {
  const by = event.target.dataset.sort;
  if (!by) return;
  sort = { by, down: sort.by === by ? !sort.down : by !== "name" };
  find("chains").querySelectorAll("th").forEach((cell) => cell.removeAttribute("aria-sort"));
  event.target.parentElement.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
  if (shown) chains(...shown);
});
document.addEventListener("visibilitychange", look);
run();
certs();
setInterval(certs, CERTS_PERIOD);
