
"use strict";
// Asks each second how the pools do and shows it. Elements are made once and changed in place, so that neither the
// keyboard's focus nor a screen reader loses its place. What is written comes from the answer and is text, never HTML.

const every = 1000, hiddenEvery = 15000, answerMax = 10000, manySlots = 8;
const states = { up: "good", down: "bad", open: "bad" }; // the others are neither
const byID = id => document.getElementById(id);
const news = []; // of states that changed, for screen readers
let drains = false;

function make(tag, className, ...children) {
	const e = document.createElement(tag);
	if (className) e.className = className;
	e.append(...children);
	return e;
}

// Changing only what differs spares the browser, and a screen reader.
function write(e, text) { if (e.textContent !== text) e.textContent = text; }
function mark(e, className) { if (e.className !== className) e.className = className; }
function set(e, name, value) { if (e.getAttribute(name) !== value) e.setAttribute(name, value); }

// fit has parent have so many children.
function fit(parent, count, makeOne) {
	while (parent.children.length < count) parent.append(makeOne());
	while (parent.children.length > count) parent.lastChild.remove();
}

// keyed has parent have one child for each item, by its key, in their order.
function keyed(parent, items, keyOf, makeOne, show) {
	const there = new Map([...parent.children].map(e => [e.key, e]));
	items.forEach((item, i) => {
		const key = keyOf(item);
		let e = there.get(key);
		if (!e) {
			e = makeOne(item);
			e.key = key;
		}
		there.delete(key);
		if (parent.children[i] !== e) parent.insertBefore(e, parent.children[i] || null);
		show(e, item);
	});
	for (const e of there.values()) e.remove();
}

function time(s) {
	if (s < 9.95) return s.toFixed(1) + " s";
	if (s < 99.5) return s.toFixed(0) + " s";
	const whole = Math.round(s), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
	return hours ? hours + " h " + minutes + " min" : minutes + " min " + whole % 60 + " s";
}
const number = n => n.toLocaleString("en");
const clock = at => new Date(at).toLocaleTimeString("en-GB");

function tile(name) {
	const value = make("dd"), line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
	const points = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
	line.setAttribute("viewBox", "0 0 119 24");
	line.setAttribute("preserveAspectRatio", "none");
	line.setAttribute("aria-hidden", "true");
	line.append(points);
	const e = make("div", "", make("dt", "", name), value);
	return { e, value, line, points };
}

// curve draws samples of the last ten minutes, the newest at the right, above zero.
function curve(t, samples, least) {
	if (!t.line.parentNode) t.e.append(t.line);
	const most = Math.max(least, ...samples);
	set(t.points, "points", samples.map((v, i) => (119 - samples.length + 1 + i) + "," + (24 - 24 * v / most).toFixed(1)).join(" "));
}

function makeTable(label, columns) {
	const head = make("tr"), body = make("tbody");
	for (const name of columns) {
		const th = make("th", "", name);
		th.scope = "col";
		head.append(th);
	}
	const table = make("table", "", make("caption", "unseen", label), make("thead", "", head), body);
	const box = make("div", "scroll", table);
	box.tabIndex = 0; // so that it scrolls by keyboard
	box.setAttribute("role", "region");
	box.setAttribute("aria-label", label);
	return { box, body };
}

function fillTable(t, none, items, columns, show) {
	t.box.hidden = !items.length;
	none.hidden = items.length > 0;
	fit(t.body, items.length, () => {
		const row = make("tr");
		fit(row, columns, () => make("td"));
		return row;
	});
	items.forEach((item, i) => show(t.body.children[i].children, item, i));
}

function makePool(pool) {
	const ui = {
		policy: make("small"), usable: make("small"), waitingShown: make("small"),
		running: tile("Running"), queued: tile("Waiting"), oldest: tile("Longest wait"), served: tile("Served a minute"),
		backends: make("ul", "backends"),
		waiting: makeTable("What waits in " + pool.name, ["Place", "Model", "Audio", "Priority", "Has waited", "Starts in", "Done in", "Where"]),
		waitingNone: make("p", "none", "Nothing waits."),
		placements: makeTable("Last placements in " + pool.name,
			["At", "Backend", "Why there", "Model", "Audio", "Waited", "Took", "Predicted", "Outcome"].concat(drains ? ["Request"] : [])),
		placementsNone: make("p", "none", "Nothing was placed yet."),
	};
	const title = make("h2", "", pool.name + " ", ui.policy);
	const section = make("section", "",
		title,
		make("dl", "tiles", ui.running.e, ui.queued.e, ui.served.e, ui.oldest.e),
		make("h3", "", "Backends ", ui.usable), ui.backends,
		make("h3", "", "Queue ", ui.waitingShown), ui.waiting.box, ui.waitingNone,
		make("h3", "", "Last placements"), ui.placements.box, ui.placementsNone);
	section.setAttribute("aria-label", "Pool " + pool.name);
	section.ui = ui;
	return section;
}

function showPool(section, pool) {
	const ui = section.ui, h = pool.history;
	write(ui.policy, pool.policy);
	write(ui.running.value, number(pool.running) + " of " + number(pool.slots));
	write(ui.queued.value, number(pool.queued));
	write(ui.oldest.value, pool.queued ? time(pool.oldest_wait) : "none");
	const lately = h.served.slice(-Math.round(60 / h.every));
	write(ui.served.value, number(Math.round(lately.reduce((a, b) => a + b, 0) * 60 / (h.every * Math.max(1, lately.length)))));
	curve(ui.running, h.running.concat(pool.running).slice(-120), Math.max(1, pool.slots));
	curve(ui.queued, h.queued.concat(pool.queued).slice(-120), 1);
	curve(ui.served, h.served, 1);
	write(ui.usable, pool.backends.filter(b => b.usable).length + " of " + pool.backends.length + " can be used");
	keyed(ui.backends, pool.backends, b => [b.id, b.class, b.address].join("\n"), b => makeBackend(pool, b), (e, b) => showBackend(e, b));
	write(ui.waitingShown, pool.queued > pool.waiting.length ? "the first " + pool.waiting.length + " of " + number(pool.queued) : "");
	fillTable(ui.waiting, ui.waitingNone, pool.waiting, 8, showWaiting);
	fillTable(ui.placements, ui.placementsNone, pool.placements, drains ? 10 : 9, showPlacement);
}

function makeBackend(pool, b) {
	const ui = {
		state: make("span", "state"), why: make("p", "why"), slots: make("ul", "slots"), numbers: make("p", "numbers"), button: null, last: "",
	};
	const who = make("div", "who", make("h4", "", b.id));
	if (b.class) who.append(make("span", "class", b.class));
	who.append(ui.state, ui.why);
	if (b.address && b.address !== b.id) who.append(make("p", "address", b.address));
	ui.slots.setAttribute("aria-label", "Slots of " + b.id);
	const e = make("li", "", who, ui.slots, ui.numbers);
	if (drains) {
		ui.button = make("button");
		ui.button.type = "button";
		ui.button.addEventListener("click", () => drain(pool.name, b.id, ui));
		e.append(ui.button);
	}
	e.ui = ui;
	return e;
}

function showBackend(e, b) {
	const ui = e.ui;
	mark(e, states[b.state] || "odd");
	write(ui.state, b.state);
	write(ui.why, b.why ? b.why + (b.reopens_in ? "; tried again in " + time(b.reopens_in) : "") : "");
	ui.why.hidden = !b.why;
	if (ui.last && ui.last !== b.state) news.push(b.id + " is " + b.state + (b.why ? ": " + b.why : ""));
	ui.last = b.state;
	const cells = Math.max(b.slots, b.jobs.length);
	mark(ui.slots, cells > manySlots ? "slots many" : "slots");
	fit(ui.slots, cells, () => make("li", "idle", make("i"), make("span", "", "idle")));
	for (let i = 0; i < cells; i++) showSlot(ui.slots.children[i], b.jobs[i], b.models && b.models.length === 1);
	const speeds = b.speeds.map(s => s.model + ": 10 s of audio in " + (s.ten_seconds < 1 ? s.ten_seconds.toFixed(2) + " s" : time(s.ten_seconds)) +
		(s.observations ? "" : " (expected)"));
	write(ui.numbers, speeds.concat("served " + number(b.served) + (b.failed ? ", failed " + number(b.failed) : "")).join(" · "));
	if (ui.button) {
		const drained = b.state === "drained";
		ui.button.drained = drained;
		write(ui.button, drained ? "Undrain" : "Drain");
		set(ui.button, "aria-label", (drained ? "Undrain " : "Drain ") + b.id);
		ui.button.hidden = b.state === "draining"; // it is not configured any more
	}
}

// oneModel: the backend has no other, so that its name says nothing.
function showSlot(cell, job, oneModel) {
	const [bar, text] = cell.children;
	if (!job) {
		mark(cell, "idle");
		bar.style.width = "0";
		write(text, "idle");
		cell.removeAttribute("title");
		return;
	}
	const late = job.predicted > 0 && job.for > job.predicted;
	mark(cell, late ? "busy late" : "busy");
	bar.style.width = job.predicted > 0 ? Math.min(100, 100 * job.for / job.predicted).toFixed(0) + "%" : "100%";
	const what = (job.trial ? "trial" : time(job.audio)) + (job.hedge ? ", second start" : job.number > 1 ? ", attempt " + job.number : "");
	const words = what + ": " + time(job.for) + (job.predicted > 0 ? " of " + time(job.predicted) : "");
	write(text, oneModel || !job.model ? words : job.model + ", " + words);
	set(cell, "title", "Recording of " + time(job.audio) + " with " + (job.model || "the default model") + ", runs for " + time(job.for) +
		(job.predicted > 0 ? ", predicted " + time(job.predicted) : ""));
}

function showWaiting(cells, w, i) {
	[String(i + 1), w.model, time(w.audio), w.priority, time(w.waited) + (w.attempts ? ", attempt " + (w.attempts + 1) : ""),
		w.backend ? time(w.starts_in) : "not known", w.backend ? time(w.ends_in) : "not known", w.backend || "nobody yet"].forEach((text, c) => write(cells[c], text));
}

function showPlacement(cells, p) {
	const outcome = p.running ? "runs" : p.outcome || (p.result === "success" ? "served" : p.result + ", waits again");
	[clock(p.at), p.backend, p.in_words, p.model, time(p.audio), time(p.queued), time(p.took), p.predicted ? time(p.predicted) : "not known",
		outcome + (p.number > 1 ? ", attempt " + p.number : "")].forEach((text, c) => write(cells[c], text));
	mark(cells[2], "words");
	mark(cells[8], p.running || outcome === "served" ? "" : "wrong");
	if (drains) showRequest(cells[9], p.request_id);
}

function showRequest(cell, id) {
	if (!id || cell.textContent === id) {
		if (!id) write(cell, "");
		return;
	}
	const link = make("a", "", id);
	link.href = "explain?request_id=" + encodeURIComponent(id);
	link.title = id;
	mark(cell, "request");
	cell.replaceChildren(link);
}

function trouble(text) {
	const e = byID("trouble");
	write(e, text);
	e.hidden = !text;
}

async function drain(pool, backend, ui) {
	const undo = ui.button.drained;
	ui.button.disabled = true;
	try {
		const r = await fetch("pools/" + encodeURIComponent(pool) + "/backends/" + encodeURIComponent(backend) + (undo ? "/undrain" : "/drain"),
			{ method: "POST", headers: { "Content-Type": "application/json" }, signal: AbortSignal.timeout(answerMax) });
		if (!r.ok) throw new Error((await r.json().catch(() => ({}))).error || "status " + r.status);
		trouble("");
	} catch (e) {
		trouble(backend + " was not " + (undo ? "undrained" : "drained") + ": " + e.message);
	}
	ui.button.disabled = false;
	ui.button.focus(); // a button that is disabled loses it
	ask();
}

function show(status) {
	drains = status.drains;
	news.length = 0;
	keyed(byID("pools"), status.pools, p => p.name, makePool, showPool);
	if (news.length) byID("news").textContent = news.join(". ");
	const out = status.pools.flatMap(p => p.backends).filter(b => states[b.state] === "bad").length;
	write(byID("link"), status.pools.length ? "live" : "no pool is configured");
	document.title = (out ? out + " out of use - " : "") + "whisperpool";
	document.body.classList.remove("stale");
	answered = Date.now();
}

let answered = 0, timer = 0, asking = false;

async function ask() {
	if (asking) return;
	asking = true;
	clearTimeout(timer);
	try {
		const r = await fetch("pools", { cache: "no-store", signal: AbortSignal.timeout(answerMax) });
		if (!r.ok) throw new Error("status " + r.status);
		show(await r.json());
	} catch (e) {
		document.body.classList.add("stale");
		write(byID("link"), "no answer " + (answered ? "since " + clock(answered) : "yet") + " (" + e.message + ")");
	}
	asking = false;
	timer = setTimeout(ask, document.hidden ? hiddenEvery : every);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
ask();
