// The contract's words for its enumerations, the same as in SQL and on the command line.
import { Answer, Handling, LabelSource } from "./gen/vedette/v1/label_pb";
import { ModelState } from "./gen/vedette/v1/model_pb";
import { AlertState } from "./gen/vedette/v1/policy_pb";
import { BaselineState, NodeState } from "./gen/vedette/v1/query_pb";
import { CrossCheckCause, CrossCheckMetric, CrossCheckOutcome, Family, Kind, Origin, Severity, Withheld } from "./gen/vedette/v1/types_pb";

/** CRASH_LOOP becomes crash_loop; the unspecified value is empty. */
function word(names: Record<number, string>, value: number): string {
  const name = names[value] ?? "";
  return name === "UNSPECIFIED" ? "" : name.toLowerCase();
}

export const kindWord = (value: Kind) => word(Kind as never, value);
export const severityWord = (value: Severity) => word(Severity as never, value);
export const familyWord = (value: Family) => word(Family as never, value).replace("_", " ");
export const originWord = (value: Origin) => word(Origin as never, value);
export const answerWord = (value: Answer) => word(Answer as never, value).replace("_", " ");
export const handlingWord = (value: Handling) => word(Handling as never, value);
export const sourceWord = (value: LabelSource) => word(LabelSource as never, value);
export const nodeWord = (value: NodeState) => word(NodeState as never, value);
export const baselineWord = (value: BaselineState) => word(BaselineState as never, value);
export const outcomeWord = (value: CrossCheckOutcome) => word(CrossCheckOutcome as never, value).replace("_", " ");
export const causeWord = (value: CrossCheckCause) => word(CrossCheckCause as never, value).replace("_", " ");
export const metricWord = (value: CrossCheckMetric) => word(CrossCheckMetric as never, value).replaceAll("_", " ");

/** Kinds that a person may state. */
export const KINDS: Kind[] = [
  Kind.MINING,
  Kind.SCAN,
  Kind.FLOOD,
  Kind.EXFILTRATION,
  Kind.RECON,
  Kind.CRASH_LOOP,
  Kind.FORK_BOMB,
  Kind.MEMORY_LEAK,
  Kind.DISK_FILL,
  Kind.UNKNOWN,
];
export const alertWord = (value: AlertState) => word(AlertState as never, value);
export const withheldWord = (value: Withheld) => word(Withheld as never, value).replace("_", " ");
export const modelWord = (value: ModelState) => word(ModelState as never, value);
