// Asks a real Prometheus what the panels, variables and annotations of a dashboard ask, and makes of the answers what
// Grafana's Prometheus data source makes of them.
import { toDataFrame, FieldType } from '@grafana/data';

const params = new URLSearchParams(location.search);
const PROM = params.get('prom') || 'http://127.0.0.1:9090';
const SECS = Number(params.get('secs') || 120);
const STEP = Number(params.get('step') || 2);
const RATE = params.get('rate') || '10s'; // at least four scrape intervals
export const END = Number(params.get('end') || Date.now() / 1000);
export const START = END - SECS;

const BUILTIN = { __rate_interval: RATE, __interval: `${STEP}s`, __range: `${SECS}s` };

// interpolator writes the values of variables into a query: what the page is asked for (var-NAME), else all.
export function interpolator(dash) {
  const chosen = Object.fromEntries((dash.templating?.list || []).map((v) => [v.name, params.get(`var-${v.name}`) || v.allValue || '.+']));
  return (text) => text.replace(/\$\{(\w+)(?::\w+)?\}|\$(\w+)/g, (all, braced, plain) => {
    const name = braced ?? plain;
    return BUILTIN[name] ?? chosen[name] ?? all;
  });
}

async function ask(path, args) {
  const reply = await (await fetch(`${PROM}/api/v1/${path}?${new URLSearchParams(args)}`)).json();
  if (reply.status !== 'success') throw new Error(reply.error);
  return reply.data;
}

// variable gives the values of a variable of the form label_values(SERIES, LABEL).
export function variable(text) {
  const [, series, label] = /^label_values\((.*), (\w+)\)$/.exec(text);
  return ask(`label/${label}/values`, { 'match[]': series, start: START, end: END });
}

export const series = async (expr) => (await ask('query_range', { query: expr, start: START, end: END, step: STEP })).result;

// NaN becomes null, as in Grafana's data source; otherwise the axes vanish.
const number = (text) => (Number.isNaN(Number(text)) ? null : Number(text));

const now = async (expr) => (await ask('query', { query: expr, time: END })).result.map(({ metric, value }) => ({ metric, values: [value] }));

// graph gives one frame a series, with null where a scrape is missing, so that gaps show.
export async function graph(target, interpolate) {
  return (await (target.instant ? now : series)(interpolate(target.expr))).map(({ metric, values }) => {
    const name = target.legendFormat ? target.legendFormat.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, key) => metric[key] ?? '').trim() : JSON.stringify(metric);
    const at = new Map(values.map(([time, value]) => [Math.round(time * 1000), number(value)]));
    const times = target.instant ? [...at.keys()] : [];
    for (let time = START; time <= END && !target.instant; time += STEP) times.push(Math.round(time * 1000));
    return toDataFrame({ name, refId: target.refId, fields: [
      { name: 'Time', type: FieldType.time, values: times, config: {} },
      { name: 'Value', type: FieldType.number, labels: metric, values: times.map((time) => at.get(time) ?? null), config: { displayNameFromDS: name } },
    ] });
  });
}

// table gives one frame a query, with a column for each label.
export async function table(target, interpolate) {
  const rows = (await ask('query', { query: interpolate(target.expr), time: END })).result;
  const labels = [...new Set(rows.flatMap(({ metric }) => Object.keys(metric)))].sort();
  return toDataFrame({ refId: target.refId, fields: [
    { name: 'Time', type: FieldType.time, values: rows.map(({ value }) => value[0] * 1000), config: {} },
    ...labels.map((label) => ({ name: label, type: FieldType.string, values: rows.map(({ metric }) => metric[label] ?? ''), config: {} })),
    { name: `Value #${target.refId}`, type: FieldType.number, values: rows.map(({ value }) => number(value[1])), config: {} },
  ] });
}
