// A dashboard as Grafana's own types have it. test_dashboards.py puts the JSON behind DASHBOARD and each panel behind PANELS.
import type { DataQuery, Dashboard, Panel } from "@grafana/schema";
import type { Options as BarGauge } from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type { Options as Stat } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type {
  FieldConfig as TimeSeriesField,
  Options as TimeSeries,
} from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// JSON has no enums: their values stand for them.
type Plain<T> = T extends string
  ? `${T}`
  : T extends boolean | number | null | undefined
    ? T
    : T extends (infer Item)[]
      ? Plain<Item>[]
      : T extends object
        ? { [Key in keyof T]: Plain<T[Key]> }
        : T;

// The package has no types for Prometheus' own queries.
interface PrometheusQuery extends DataQuery {
  expr: string;
  legendFormat?: string;
  editorMode?: "builder" | "code";
  range?: boolean;
  instant?: boolean;
}

type Kind<Name extends string, Options, Field> = Omit<
  Plain<Panel>,
  "type" | "options" | "targets" | "fieldConfig"
> & {
  type: Name;
  options: Plain<Options>;
  targets: Plain<PrometheusQuery>[];
  fieldConfig: {
    defaults: Omit<NonNullable<Plain<Panel>["fieldConfig"]>["defaults"], "custom"> & { custom?: Plain<Field> };
    overrides: NonNullable<Plain<Panel>["fieldConfig"]>["overrides"];
  };
};
type StatPanel = Kind<"stat", Stat, never>;
type BarGaugePanel = Kind<"bargauge", BarGauge, never>;
type TimeSeriesPanel = Kind<"timeseries", TimeSeries, TimeSeriesField>;

