// What people are bothered with: pages and tickets so far, what would have paged, what was withheld, what may happen unseen.
import { useState } from "preact/hooks";
import { policyApi, said } from "../api";
import { ms, number, short, vis } from "../format";
import { AlertState, type Exception, ExceptionSource, type Rate } from "../gen/vedette/v1/policy_pb";
import { At, Fact, Facts, IncidentRow, Section, Trouble } from "../parts";
import { usePoll } from "../poll";
import { Table } from "../table";
import { useViewer } from "../viewer";
import { alertWord, kindWord, withheldWord } from "../words";

/** So many, and so many a week with the interval that holds the truth 95 times of 100. */
function Rated({ rate }: { rate: Rate | undefined }) {
  if (!rate) return <>–</>;
  return (
    <>
      <b>{number(ms(rate.count))}</b>
      {rate.perWeek !== undefined && (
        <span class="dim">
          {" "}
          {number(rate.perWeek)} a week ({number(rate.lowPerWeek ?? 0)} to {number(rate.highPerWeek ?? 0)})
        </span>
      )}
    </>
  );
}

export function Budget() {
  const viewer = useViewer();
  const [error, setError] = useState("");
  const budget = usePoll("budget", 30_000, (signal) => policyApi.getBudget({}, { signal }));
  const alerts = usePoll("alerts", 30_000, (signal) => policyApi.getAlerts({}, { signal }));
  const set = async (enabled: boolean, early: boolean) => {
    try {
      await policyApi.setAlerts({ enabled, early });
      setError("");
      alerts.again();
    } catch (problem) {
      setError(said(problem));
    }
  };
  const { value } = budget;
  const state = alerts.value?.state;
  const early = (alerts.value?.observesUntilUnixMs ?? 0n) > BigInt(Date.now());
  return (
    <>
      <h1>Budget</h1>
      <Trouble text={budget.error || alerts.error || error} />
      {alerts.value && (
        <Section title="Does it page?">
          <Facts>
            <Fact name="now">
              <b class={state === AlertState.ENABLED ? "" : "loud"}>{alertWord(alerts.value.state)}</b>
              {alerts.value.changedBy && (
                <span class="dim">
                  {" "}
                  by {short(alerts.value.changedBy, 40)} <At ms={ms(alerts.value.changedUnixMs)} />
                </span>
              )}
            </Fact>
            <Fact name="pages to expect">
              <Rated rate={alerts.value.expected} />
            </Fact>
            <Fact name="observes until">
              <At ms={ms(alerts.value.observesUntilUnixMs)} />
            </Fact>
          </Facts>
          <p class="buttons">
            {state === AlertState.ENABLED ? (
              <button type="button" disabled={!viewer.mayAnswer} onClick={() => set(false, false)}>
                Stop paging
              </button>
            ) : (
              <button type="button" class="primary" disabled={!viewer.mayAnswer} onClick={() => set(true, early)}>
                {early ? "Page already, before the days of observing are over" : "Page from now on"}
              </button>
            )}
          </p>
          <Table
            caption="days"
            rows={alerts.value.days}
            id={(row) => String(row.startUnixMs)}
            size={14}
            empty="no day was watched yet"
            columns={[
              { head: "day (UTC)", cell: (row) => new Date(ms(row.startUnixMs)).toISOString().slice(0, 10) },
              { head: "watched", cell: (row) => `${number(row.watchedSeconds / 3600)} h`, right: true },
              { head: "pages", cell: (row) => row.pages, right: true },
              { head: "would have paged", cell: (row) => row.wouldHavePaged, right: true },
              { head: "tickets", cell: (row) => row.tickets, right: true },
              { head: "digest", cell: (row) => row.digest, right: true },
            ]}
          />
        </Section>
      )}
      {value && (
        <Section title="So far" aside={<>since <At ms={ms(value.sinceUnixMs)} /></>}>
          <Facts>
            <Fact name="pages">
              <Rated rate={value.pages} />
            </Fact>
            <Fact name="would have paged">
              <Rated rate={value.wouldHavePaged} />
            </Fact>
            <Fact name="tickets">
              <Rated rate={value.tickets} />
            </Fact>
            <Fact name="digest: reached nobody">
              <Rated rate={value.digest} />
            </Fact>
            {value.judged && (
              <Fact name="quiet windows judged">
                <b>{number(ms(value.judged.judged))}</b>, {number(ms(value.judged.misses))} missed
                {value.judged.high !== undefined && <span class="dim"> at most {number(value.judged.high * 100)} %</span>}
              </Fact>
            )}
          </Facts>
          <Table
            caption="budgets"
            rows={value.rotas}
            id={(row) => row.name}
            columns={[
              { head: "rota", cell: (row) => <b>{short(row.name, 32)}</b> },
              { head: "called for", cell: (row) => short(row.namespaces.join(", "), 48) || "all that no other rota has" },
              { head: "pages, 7 days", cell: (row) => `${row.pagesSpent} of ${row.pagesPerWeek}`, right: true },
              { head: "tickets, 24 hours", cell: (row) => `${row.ticketsSpent} of ${row.ticketsPerDay}`, right: true },
            ]}
          />
          {value.withheld.length > 0 && (
            <p>
              Withheld:{" "}
              {value.withheld.map((one) => (
                <span key={one.withheld}>
                  <b>{number(ms(one.count))}</b> {withheldWord(one.withheld)}{" "}
                </span>
              ))}
            </p>
          )}
        </Section>
      )}
      {value && value.listed.length > 0 && (
        <Section title="Withheld lately">
          <ul class="incidents">
            {value.listed.map((incident) => (
              <IncidentRow key={String(incident.id)} incident={incident} />
            ))}
          </ul>
        </Section>
      )}
      {value && value.namespaces.length > 0 && (
        <Section title="By namespace">
          <Table
            caption="namespaces"
            rows={value.namespaces}
            id={(row) => row.namespace}
            size={20}
            columns={[
              { head: "namespace", cell: (row) => short(row.namespace, 48) || "none known" },
              { head: "pages", cell: (row) => String(row.pages), by: (row) => Number(row.pages), right: true },
              { head: "would have paged", cell: (row) => String(row.wouldHavePaged), by: (row) => Number(row.wouldHavePaged), right: true },
              { head: "tickets", cell: (row) => String(row.tickets), by: (row) => Number(row.tickets), right: true },
              { head: "digest", cell: (row) => String(row.digest), by: (row) => Number(row.digest), right: true },
            ]}
          />
        </Section>
      )}
      <Exceptions />
    </>
  );
}

function Exceptions() {
  const viewer = useViewer();
  const [error, setError] = useState("");
  const list = usePoll("exceptions", 30_000, (signal) => policyApi.listExceptions({}, { signal }));
  const remove = async (name: string) => {
    try {
      await policyApi.removeException({ name });
      setError("");
      list.again();
    } catch (problem) {
      setError(said(problem));
    }
  };
  const of = (row: Exception) => [row.namespace, row.ownerKind, row.ownerName, row.containerName].map((part) => part || "*").join("/");
  const from = (row: Exception) => (row.source === ExceptionSource.ANSWER ? `answer to ${row.incidentId}` : row.source === ExceptionSource.FILE ? "a file" : row.author);
  return (
    <Section title="Exceptions" aside="what may happen without bothering anybody; an incident's page adds one">
      <Trouble text={error || list.error} />
      {list.value && (
        <Table
          caption="exceptions"
          rows={list.value.exceptions}
          id={(row) => row.name}
          empty="none stands"
          columns={[
            { head: "name", cell: (row) => <b>{short(row.name, 40)}</b>, by: (row) => row.name },
            { head: "of", cell: (row) => <span title={vis(of(row))}>{short(of(row), 56)}</span>, by: of },
            { head: "kind", cell: (row) => kindWord(row.kind) || "any" },
            { head: "until", cell: (row) => <At ms={ms(row.expiresUnixMs)} />, by: (row) => Number(row.expiresUnixMs) },
            { head: "why", cell: (row) => <span title={vis(row.reason)}>{short(row.reason, 40)}</span> },
            { head: "from", cell: (row) => short(from(row), 24) },
            { head: "lowered", cell: (row) => String(row.lowered), by: (row) => Number(row.lowered), right: true },
            {
              head: "state",
              cell: (row) => (
                <button type="button" disabled={!viewer.mayAnswer} aria-label={`end exception ${vis(row.name)}`} onClick={() => remove(row.name)}>
                  end
                </button>
              ),
            },
          ]}
        />
      )}
    </Section>
  );
}
