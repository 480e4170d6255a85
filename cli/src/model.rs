//! `vedette model`: the kind classifiers of an aggregator.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use vedette_proto::v1::{
    AddModelRequest, GetModelRequest, ListModelChangesRequest, ListModelsRequest, Model, ModelComparison, ModelState, PromoteModelRequest,
    RemoveModelRequest, RollBackModelRequest, ShadowModelRequest,
};

use crate::cell::{Cell, Tone};
use crate::client::Client;
use crate::cluster::Role;
use crate::comparison::Written;
use crate::escape::escaped;
use crate::exit::{Exit, Stop, found};
use crate::model_file::ModelFile;
use crate::output::{Column, Format, Output};
use crate::progress::waiting;

/// The commands below `vedette model`.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// List the models: which serves, which watches
    #[command(after_help = "\
Example:
  vedette model list -o json | jq -r '.[] | select(.state == \"serving\").id'")]
    List,
    /// Show a model's card: what it was trained on, with which figures
    #[command(after_help = "\
Examples:
  vedette model show serving
  vedette model show 3fa2 --out kind.vdtm")]
    Show(ShowArgs),
    /// Bring a model; it neither serves nor watches yet
    #[command(after_help = "\
vedette train writes such a file, and the key's public half beside it.

Example:
  vedette model add kind.vdtm --public-key kind.vdtm.pub --note \"with the answers of March\"")]
    Add(AddArgs),
    /// Take a model away that neither serves nor watches
    #[command(after_help = "\
Example:
  vedette model remove 3fa2")]
    Remove {
        /// The model: its id, or a beginning of it
        id: String,
    },
    /// Put a model into service, if it is no worse than the one there
    #[command(after_help = "\
The comparison is what `vedette evaluate --model --against --comparison-out` writes, of this model with the one in service, on recordings
that neither was made with. The aggregator checks its figures again. Without one that passed, --force does it, and the reason stays on record.

Examples:
  vedette model show serving --out serving.vdtm
  vedette evaluate --recordings others --model kind.vdtm --against serving.vdtm --comparison-out comparison.json
  vedette model promote 3fa2 --comparison comparison.json
  vedette model promote 3fa2 --force \"the one in service calls every backup mining\"")]
    Promote(PromoteArgs),
    /// Let a model watch beside the one in service: what it would say is counted, and told to nobody
    #[command(after_help = "\
Examples:
  vedette model shadow 3fa2
  vedette model shadow --off")]
    Shadow(ShadowArgs),
    /// Put the model into service that served before the present one
    #[command(after_help = "\
Example:
  vedette model rollback --reason \"twice as many tickets\"")]
    Rollback {
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// List what was done with models, newest first
    #[command(after_help = "\
Example:
  vedette model log")]
    Log {
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
}

/// Flags of `vedette model show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its id, or a beginning of it; serving, shadow and shipped name those
    id: String,
    /// Write its file here too, and the public key of whoever signed it beside it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Flags of `vedette model add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The file
    file: PathBuf,
    /// The public key that it is signed with: a file of 64 hexadecimal digits [default: FILE.pub, or FILE with .pub for its ending]
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Free text
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
}

/// Flags of `vedette model promote`.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The model: its id, or a beginning of it
    id: String,
    /// The comparison that speaks for it
    #[arg(long, value_name = "FILE")]
    comparison: Option<PathBuf>,
    /// Do it without one, or against it, for this reason
    #[arg(long, value_name = "REASON")]
    force: Option<String>,
}

/// Flags of `vedette model shadow`.
#[derive(Debug, Args)]
pub struct ShadowArgs {
    /// The model: its id, or a beginning of it
    #[arg(required_unless_present = "off")]
    id: Option<String>,
    /// Nothing is to watch any more
    #[arg(long, conflicts_with = "id")]
    off: bool,
}

impl ModelCommand {
    /// The role that suffices.
    #[must_use]
    pub fn needs(&self) -> Role {
        match self {
            Self::List | Self::Show(_) | Self::Log { .. } => Role::Viewer,
            Self::Shadow(_) => Role::Operator,
            Self::Add(_) | Self::Remove { .. } | Self::Promote(_) | Self::Rollback { .. } => Role::Admin,
        }
    }
}

/// Runs a command.
pub async fn run(command: ModelCommand, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    match command {
        ModelCommand::List => list(client, output).await,
        ModelCommand::Show(args) => show(args, client, output).await,
        ModelCommand::Add(args) => add(args, client, output).await,
        ModelCommand::Remove { id } => {
            let answer = waiting("removing the model", client.model.remove_model(RemoveModelRequest { id: id.clone() })).await;
            answer.map_err(Stop::from)?;
            said(output, &format!("model {} is gone", escaped(&id)), None)
        }
        ModelCommand::Promote(args) => promote(args, client, output).await,
        ModelCommand::Shadow(args) => {
            let request = ShadowModelRequest { id: args.id.unwrap_or_default() };
            let answer = waiting("changing what watches", client.model.shadow_model(request)).await;
            let model = answer.map_err(Stop::from)?.into_inner().model;
            let spoken = model.as_ref().map_or("no model watches".to_owned(), |model| {
                format!("model {} watches from now on; vedette model list shows where it differs", model.id)
            });
            said(output, &spoken, model.as_ref())
        }
        ModelCommand::Rollback { reason } => {
            let answer = waiting("rolling back", client.model.roll_back_model(RollBackModelRequest { reason })).await;
            serves(answer.map_err(Stop::from)?.into_inner().model, output)
        }
        ModelCommand::Log { limit } => log(limit, client, output).await,
    }
}

async fn list(client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let answer = waiting("asking for the models", client.model.list_models(ListModelsRequest {})).await;
    let models = answer.map_err(Stop::from)?.into_inner().models;
    let mut rows = output.rows(columns())?;
    for model in &models {
        rows.row(cells(model))?;
    }
    Ok(found(rows.end()?, "there is no model: the signatures decide alone"))
}

fn columns() -> Vec<Column> {
    vec![
        Column::both("id", "ID"),
        Column::both("state", "STATE"),
        Column::both("shipped", "SHIPPED"),
        Column::both("added_by", "BY"),
        Column::both("added", "ADDED"),
        Column::both("trees", "TREES"),
        Column::data("bytes"),
        Column::data("classes"),
        Column::data("columns"),
        Column::both("asked", "ASKED"),
        Column::both("only_this", "ONLY THIS"),
        Column::both("only_serving", "ONLY SERVING"),
        Column::both("note", "NOTE"),
        Column::data("card"),
    ]
}

fn cells(model: &Model) -> Vec<Cell> {
    let tone = if model.state() == ModelState::Serving { Tone::Good } else { Tone::Plain };
    let counted = |count: u64| if model.state() == ModelState::Shadow { Cell::Unsigned(count) } else { Cell::Absent };
    let card: std::collections::BTreeMap<_, _> = model.card.iter().collect();
    vec![
        Cell::text(&model.id),
        Cell::word(model.state().word(), tone),
        Cell::Boolean(model.shipped),
        Cell::text(&model.added_by),
        Cell::instant(model.added_unix_ms),
        Cell::Unsigned(u64::from(model.trees)),
        Cell::Unsigned(model.bytes),
        Cell::List(model.classes.clone()),
        Cell::List(model.columns.clone()),
        counted(model.asked),
        counted(model.only_this),
        counted(model.only_serving),
        Cell::text(&model.note),
        Cell::Json(serde_json::to_string(&card).unwrap_or_default()),
    ]
}

async fn show(args: ShowArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let request = GetModelRequest { id: args.id, with_file: args.out.is_some() };
    let answer = waiting("asking for the model", client.model.get_model(request)).await.map_err(Stop::from)?.into_inner();
    let Some(model) = answer.model else {
        return Err(Stop::new(Exit::Failure, "the aggregator answered without the model").into());
    };
    if let Some(path) = &args.out {
        let no_key = |_| Stop::new(Exit::Failure, "the aggregator answered without the model's key: is it older than this program?");
        let public_key = <[u8; 32]>::try_from(answer.public_key).map_err(no_key)?;
        ModelFile { path: path.clone(), bytes: answer.file, public_key }.write()?;
    }
    if output.format != Format::Table {
        output.object(columns(), &cells(&model))?;
        return Ok(Exit::Ok);
    }
    let from = match model.shipped {
        true => "came with the aggregator".to_owned(),
        false => format!("brought by {}", escaped(&model.added_by)),
    };
    output.line(&format!("{}  {}, {from}, {} trees", output.bold(&model.id), model.state().word(), model.trees))?;
    output.line(&format!("names {}", escaped(&model.classes.join(", "))))?;
    output.line(&format!("sees {} values: {}", model.columns.len(), escaped(&model.columns.join(", "))))?;
    let card: std::collections::BTreeMap<_, _> = model.card.iter().collect();
    for (key, value) in card {
        output.line(&format!("{}: {}", escaped(key).replace('_', " "), escaped(value)))?;
    }
    output.sink.flush()?;
    Ok(Exit::Ok)
}

async fn add(args: AddArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let file = ModelFile::read(&args.file, args.public_key.as_deref())?;
    // Said here, it names the file; the aggregator checks again.
    file.classifier()?;
    let request = AddModelRequest { file: file.bytes, public_key: file.public_key.to_vec(), note: args.note };
    let answer = waiting("sending the model", client.model.add_model(request)).await.map_err(Stop::from)?.into_inner();
    let model = answer.model.unwrap_or_default();
    let before = if answer.known { "was there before" } else { "is there now" };
    said(output, &format!("model {} {before}; vedette model shadow {} lets it watch", model.id, model.id), Some(&model))
}

async fn promote(args: PromoteArgs, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let comparison = args.comparison.as_deref().map(Written::read).transpose()?.map(ModelComparison::from);
    let (force, reason) = (args.force.is_some(), args.force.unwrap_or_default());
    let request = PromoteModelRequest { id: args.id, comparison, force, reason };
    let answer = waiting("promoting the model", client.model.promote_model(request)).await;
    serves(answer.map_err(Stop::from)?.into_inner().model, output)
}

fn serves(model: Option<Model>, output: &mut Output) -> anyhow::Result<Exit> {
    let model = model.unwrap_or_default();
    said(output, &format!("model {} serves now; vedette model rollback takes it back", model.id), Some(&model))
}

async fn log(limit: u32, client: &mut Client, output: &mut Output) -> anyhow::Result<Exit> {
    let answer = waiting("asking what was done", client.model.list_model_changes(ListModelChangesRequest { limit })).await;
    let changes = answer.map_err(Stop::from)?.into_inner().changes;
    let mut rows = output.rows(vec![
        Column::both("time", "TIME"),
        Column::both("what", "WHAT"),
        Column::both("model", "MODEL"),
        Column::both("before", "BEFORE"),
        Column::both("who", "BY"),
        Column::both("forced", "FORCED"),
        Column::both("reason", "REASON"),
        Column::data("conditions"),
    ])?;
    for change in &changes {
        let conditions = change.comparison.as_ref().map_or_else(Vec::new, |comparison| comparison.conditions.clone());
        rows.row(vec![
            Cell::instant(change.unix_ms),
            Cell::text(&change.what),
            Cell::text(&change.model),
            Cell::text(&change.before),
            Cell::text(&change.who),
            Cell::Boolean(change.forced),
            Cell::text(&change.reason),
            Cell::List(conditions),
        ])?;
    }
    Ok(found(rows.end()?, "nothing was done with models yet"))
}

fn said(output: &mut Output, spoken: &str, model: Option<&Model>) -> anyhow::Result<Exit> {
    match (output.format, model) {
        (Format::Table, _) => output.line(spoken)?,
        (_, Some(model)) => output.object(columns(), &cells(model))?,
        (_, None) => {}
    }
    output.sink.flush()?;
    Ok(Exit::Ok)
}
