// Draws the kinds of panels that our dashboards have, with the components that Grafana's panels are made of.
import React from 'react';
import {
  createTheme, applyFieldOverrides, standardFieldConfigEditorRegistry, dateTime, reduceField, getFieldDisplayName, getDisplayProcessor, getDisplayValueAlignmentFactors,
  cacheFieldDisplayNames, FieldType,
} from '@grafana/data';
import { TimeSeries, BigValue, BarGauge } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { START, END } from './prometheus.js';

export const theme = createTheme({ colors: { mode: 'dark' } });
export const SUPPORTED = ['timeseries', 'stat', 'bargauge', 'table'];
const range = { from: dateTime(START * 1000), to: dateTime(END * 1000), raw: { from: 'now', to: 'now' } };

export function Viz({ panel, data, marks, width, height }) {
  if (!SUPPORTED.includes(panel.type)) return <Complaint>unsupported: {panel.type}</Complaint>;
  if (data.errors.length) return <Complaint>{data.errors.join('; ')}</Complaint>;
  if (data.empty) return <Complaint>No data</Complaint>;
  const fieldConfig = { defaults: { ...panel.fieldConfig?.defaults }, overrides: panel.fieldConfig?.overrides || [] };
  // Grafana reads the lowest step's null as minus infinity.
  fieldConfig.defaults.thresholds = steps(fieldConfig.defaults.thresholds);
  fieldConfig.overrides = fieldConfig.overrides.map((o) => ({ ...o, properties: o.properties.map((p) => (p.id === 'thresholds' ? { ...p, value: steps(p.value) } : p)) }));
  const frames = applyFieldOverrides({ data: data.frames, fieldConfig, replaceVariables: (s) => s, theme, timeZone: 'utc', fieldConfigRegistry: standardFieldConfigEditorRegistry });
  const Kind = { timeseries: Graph, stat: Numbers, bargauge: Bars, table: Rows }[panel.type];
  return <Kind frames={frames} options={panel.options} fieldConfig={fieldConfig} marks={marks} width={width} height={height} />;
}

const steps = (thresholds) => thresholds && { ...thresholds, steps: thresholds.steps.map((s) => ({ ...s, value: s.value ?? -Infinity })) };

const Complaint = ({ children }) => <div style={{ color: '#f88', padding: 8 }}>{children}</div>;

function Graph({ frames, options, marks, width, height }) {
  return <TimeSeries frames={frames} width={width} height={height} timeRange={range} timeZone="utc" options={options} legend={options.legend}>
    {(config) => { config.addHook('draw', (plot) => draw(plot, marks)); return null; }}
  </TimeSeries>;
}

// draw marks the moments of annotations as Grafana does: a dashed line and a triangle.
function draw(plot, marks) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName('orange');
  for (const time of marks) {
    const x = plot.valToPos(time, 'x', true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.setLineDash([4, 4]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.beginPath();
    ctx.moveTo(x - 4, bbox.top + bbox.height + 6);
    ctx.lineTo(x + 4, bbox.top + bbox.height + 6);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.fill();
  }
  ctx.restore();
}

// reduced is one value for each frame, or what the panel shows where there is none.
function reduced(frames, options) {
  const calc = options.reduceOptions.calcs[0];
  return frames.map((frame) => {
    const field = frame.fields.find((f) => f.type === FieldType.number);
    const display = field.display ?? getDisplayProcessor({ field, theme });
    const value = reduceField({ field, reducers: [calc] })[calc];
    return { frame, field, display, value: { ...display(value), title: getFieldDisplayName(field, frame, frames) } };
  });
}

function Numbers({ frames, options, width, height }) {
  const values = reduced(frames, options);
  return <div style={{ display: 'flex' }}>{values.map(({ frame, field, value }, i) =>
    <BigValue key={i} value={value} width={width / values.length} height={height} theme={theme} count={values.length}
      sparkline={options.graphMode === 'none' ? undefined : { x: frame.fields[0], y: field }}
      colorMode={options.colorMode} graphMode={options.graphMode} justifyMode={options.justifyMode} textMode={options.textMode} />)}</div>;
}

function Bars({ frames, options, width, height }) {
  const values = reduced(frames, options);
  const size = Math.min(options.maxVizHeight, height / values.length - 6);
  const factors = getDisplayValueAlignmentFactors(values.map(({ value }) => ({ display: value })));
  const most = Math.max(...values.map(({ value }) => value.numeric));
  return <div>{values.map(({ value, field, display }, i) => <div key={i} style={{ marginBottom: 6 }}>
    <BarGauge value={value} field={{ ...field.config, min: 0, max: most }} display={display} width={width} height={size} theme={theme}
      alignmentFactors={factors} orientation={options.orientation} displayMode={options.displayMode} showUnfilled={options.showUnfilled} />
  </div>)}</div>;
}

function Rows({ frames, options, fieldConfig, width, height }) {
  cacheFieldDisplayNames(frames);
  return <TableNG data={frames[0]} width={width} height={height} timeRange={range} cellHeight={options.cellHeight} noHeader={!options.showHeader}
    fieldConfig={fieldConfig} structureRev={1} />;
}
