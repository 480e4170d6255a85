//! `vedette query`: a read-only SQL question over history.

use std::io::Read as _;

use clap::Args;
use vedette_proto::v1::query_value::Value;
use vedette_proto::v1::{QueryRequest, QueryRow};

use crate::cell::Cell;
use crate::client::Client;
use crate::exit::{Exit, Stop, found};
use crate::output::{Column, Output, Rows};
use crate::progress::waiting;

/// Larger than any question, and a bound on what standard input may bring.
const MAX_SQL_BYTES: u64 = 1 << 20;

/// Flags of `vedette query`.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// One SELECT statement, or - to read it from standard input
    sql: String,
    /// At most this many rows
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_rows: u32,
}

/// Asks and prints.
pub async fn run(args: QueryArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let mut sql = args.sql;
    if sql == "-" {
        sql.clear();
        std::io::stdin().take(MAX_SQL_BYTES).read_to_string(&mut sql)?;
    }
    let request = QueryRequest { sql, max_rows: args.max_rows };
    let stream = waiting("asking", client.query.query(request)).await;
    let mut stream = stream.map_err(Stop::from)?.into_inner();
    let mut rows: Option<Rows<'_>> = None;
    let mut output = Some(output);
    let mut truncated = false;
    while let Some(part) = waiting("waiting for rows", stream.message()).await.map_err(Stop::from)? {
        if let Some(output) = output.take() {
            let columns = part.columns.iter().map(|column| Column::both(&column.name, &column.name));
            rows = Some(output.rows(columns.collect())?);
        }
        let width = rows.as_ref().map_or(0, Rows::width);
        for row in part.rows {
            let cells = cells(row);
            if cells.len() != width {
                return Err(
                    Stop::new(Exit::Failure, format!("the aggregator sent a row of {} values for {width} columns", cells.len())).into()
                );
            }
            if let Some(rows) = &mut rows {
                rows.row(cells)?;
            }
        }
        truncated |= part.truncated;
    }
    let count = match rows {
        Some(rows) => rows.end()?,
        None => return Err(Stop::new(Exit::Failure, "the aggregator answered without columns").into()),
    };
    if truncated {
        eprintln!("vedette: there are more than {count} rows; raise --max-rows or aggregate in SQL");
    }
    Ok(found(count, "no rows"))
}

fn cells(row: QueryRow) -> Vec<Cell> {
    let cell = |value: Option<Value>| match value {
        None => Cell::Absent,
        Some(Value::Integer(value)) => Cell::Integer(value),
        Some(Value::Unsigned(value)) => Cell::Unsigned(value),
        Some(Value::Number(value)) => Cell::Number(value),
        Some(Value::Text(value)) => Cell::Text(value),
        Some(Value::Boolean(value)) => Cell::Boolean(value),
        Some(Value::Binary(value)) => Cell::Binary(value),
        Some(Value::UnixMs(value)) => Cell::Instant(value),
    };
    row.values.into_iter().map(|value| cell(value.value)).collect()
}
