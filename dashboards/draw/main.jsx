// Draws one classic dashboard with Grafana's own components, from a real Prometheus.
// Page parameters: dash (URL of the JSON), prom (base URL), secs (window), step (seconds), rate (what $__rate_interval becomes), end (Unix time),
// var-NAME (a variable's value), absent (a regular expression: rows whose title matches may be empty, and are left out).
// The result is the page title: "READY panels=N empty=N errors=N unsupported=N variables=N annotations=N | ...", or "FAIL: ...".
import React from 'react';
import { createRoot } from 'react-dom/client';
import { lastValueFrom } from 'rxjs';
import {
  ThemeContext, standardFieldConfigEditorRegistry, standardEditorsRegistry, identityOverrideProcessor, standardTransformersRegistry,
  standardTransformers, transformDataFrame, FieldType,
} from '@grafana/data';
import { PanelChrome, GlobalStyles } from '@grafana/ui';
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import { graph, table, series, variable, interpolator } from './prometheus.js';
import { Viz, SUPPORTED, theme } from './panels.jsx';

const params = new URLSearchParams(location.search);
const WIDTH = 1400;
const ROW = 38; // pixels of a grid row
const crashed = new Set(); // titles of panels that threw while drawing

async function load(panel, interpolate) {
  let frames = [];
  const errors = [];
  for (const target of panel.targets || []) {
    try {
      frames.push(...[await (target.format === 'table' ? table : graph)(target, interpolate)].flat());
    } catch (err) {
      errors.push(`${target.refId}: ${err.message}`);
    }
  }
  const hasValue = (f) => f.fields.some((field) => field.type === FieldType.number && field.values.some((v) => v !== null));
  // Each query is to have a value, or one that went wrong would hide behind its neighbours.
  const missing = (panel.targets || []).filter((t) => !frames.some((f) => f.refId === t.refId && hasValue(f))).map((t) => t.refId);
  if (panel.transformations?.length) frames = await lastValueFrom(transformDataFrame(panel.transformations, frames));
  return { panel, frames, errors, missing, empty: !frames.some(hasValue) };
}

// placed are the panels as they lie when all rows are open, without the rows that may be absent.
function placed(dash) {
  const absent = params.get('absent') && new RegExp(params.get('absent'));
  const out = [];
  let shift = 0;
  for (const panel of dash.panels) {
    const at = { ...panel.gridPos, y: panel.gridPos.y + shift };
    if (panel.type === 'row' && absent?.test(panel.title)) {
      shift--;
      continue;
    }
    out.push({ ...panel, gridPos: at });
    if (!panel.panels?.length) continue;
    const inside = panel.panels.map((p) => ({ ...p, gridPos: { ...p.gridPos, y: p.gridPos.y + shift } }));
    out.push(...inside);
    shift += Math.max(...inside.map((p) => p.gridPos.y + p.gridPos.h)) - at.y - 1;
  }
  return out;
}

// A panel that throws must neither blank the page nor pass unseen.
class Guard extends React.Component {
  state = {};
  static getDerivedStateFromError(error) { return { error }; }
  componentDidCatch() { crashed.add(this.props.title); this.props.onCrash(); }
  render() { return this.state.error ? <pre style={{ color: '#f88' }}>{String(this.state.error)}</pre> : this.props.children; }
}

function Dashboard({ dash, results, marks, report }) {
  const column = WIDTH / 24;
  const height = Math.max(...results.map(({ panel }) => panel.gridPos.y + panel.gridPos.h)) * ROW;
  return <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <div style={{ color: theme.colors.text.primary, fontFamily: 'Inter, sans-serif', padding: '8px 12px', background: theme.colors.background.canvas }}>
      <h4 style={{ margin: '4px 0 10px' }}>{dash.title}</h4>
      <div style={{ position: 'relative', width: WIDTH, height }}>
        {results.map((data, i) => {
          const { x, y, w, h } = data.panel.gridPos;
          const size = { width: w * column - 8, height: h * ROW - 8 };
          const box = { position: 'absolute', left: x * column, top: y * ROW, ...size };
          if (data.panel.type === 'row') return <div key={i} style={{ ...box, fontWeight: 500, lineHeight: '30px' }}>⌄&ensp;{data.panel.title}</div>;
          return <div key={i} style={box}>
            <PanelChrome title={data.panel.title} description={data.panel.description} {...size}>
              {(width, height) => <Guard title={data.panel.title} onCrash={report}>
                <Viz panel={data.panel} data={data} marks={marks} width={width} height={height} />
              </Guard>}
            </PanelChrome>
          </div>;
        })}
      </div>
    </div>
  </ThemeContext.Provider>;
}

// register does what Grafana does at its start; the ui package no longer exports the standard set.
function register() {
  const properties = ['unit', 'min', 'max', 'decimals', 'displayName', 'color', 'thresholds', 'mappings', 'noValue', 'links', 'fieldMinMax', 'filterable'];
  const custom = ['width', 'cellOptions', 'align', 'inspect', 'filterable', 'drawStyle', 'lineWidth', 'fillOpacity', 'gradientMode', 'lineInterpolation', 'lineStyle',
    'showPoints', 'pointSize', 'spanNulls', 'axisPlacement', 'axisLabel', 'scaleDistribution', 'stacking', 'thresholdsStyle', 'axisBorderShow',
    'axisColorMode', 'barAlignment', 'hideFrom', 'insertNulls', 'axisCenteredZero'];
  const entry = (id, path, isCustom) => ({
    id, path, name: id, isCustom, process: identityOverrideProcessor, shouldApply: () => true, editor: () => null, override: () => null, settings: {},
  });
  standardFieldConfigEditorRegistry.setInit(() => [...properties.map((id) => entry(id, id, false)), ...custom.map((id) => entry(`custom.${id}`, id, true))]);
  standardEditorsRegistry.setInit(() => []);
  standardTransformersRegistry.setInit(() => [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map((t) => ({ id: t.id, name: t.name, transformation: async () => t, editor: () => null })));
}

async function main() {
  register();
  const dash = await (await fetch(params.get('dash') || 'dash.json')).json();
  const interpolate = interpolator(dash);
  const failures = [];
  const values = await Promise.all((dash.templating?.list || []).filter((v) => v.type === 'query')
    .map(async (v) => [v.name, await variable(interpolate(v.query.query))]));
  for (const [name, found] of values) if (!found.length) failures.push(`no value of $${name}`);
  const marks = [];
  for (const annotation of dash.annotations.list.filter((a) => a.expr)) {
    for (const { values: at } of await series(interpolate(annotation.expr))) {
      // Grafana marks the beginning of each stretch of samples.
      at.forEach(([time], i) => (i === 0 || time - at[i - 1][0] > 3 * Number(params.get('step') || 2)) && marks.push(time * 1000));
    }
  }
  const results = await Promise.all(placed(dash).map((panel) => load(panel, interpolate)));
  const panels = results.filter((r) => r.panel.type !== 'row');
  const report = () => {
    const empty = panels.filter((r) => r.empty || r.missing.length).map((r) => `${r.panel.title} (${r.missing.join('')})`);
    const errors = [...failures, ...panels.flatMap((r) => r.errors.map((e) => `${r.panel.title}: ${e}`)), ...[...crashed].map((c) => `${c}: threw while drawing`)];
    const unsupported = panels.filter((r) => !SUPPORTED.includes(r.panel.type));
    document.title = `READY panels=${panels.length} empty=${empty.length} errors=${errors.length} unsupported=${unsupported.length} variables=${values.length} annotations=${marks.length}`
      + (empty.length ? ` | empty: ${empty.join('; ')}` : '') + (errors.length ? ` | errors: ${errors.join('; ')}` : '');
  };
  createRoot(document.getElementById('root'), { onUncaughtError: fail }).render(<Dashboard dash={dash} results={results} marks={marks} report={report} />);
  await document.fonts.ready;
  setTimeout(report, 1000); // crashes are told by then
}

function fail(err) {
  const pre = document.createElement('pre');
  pre.style.color = 'red';
  pre.textContent = err.stack;
  document.body.replaceChildren(pre);
  document.title = `FAIL: ${err.message}`;
}

main().catch(fail);
