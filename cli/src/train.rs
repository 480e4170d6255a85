//! `vedette train`: a kind classifier from recordings, with its figures, in one signed file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use vedette_detect::promotion::{DIGEST_DIGITS, SESSION_DIGESTS, SESSIONS_LEARNT};
use vedette_forest::Model;

use crate::evaluate::{self, Session, Sum, percent};
use crate::exit::Exit;
use crate::output::Output;
use crate::recording::{OBSERVATIONS, find};

/// Flags of `vedette train`.
#[derive(Clone, Debug, Args)]
pub struct TrainArgs {
    /// A folder of recordings; probabilities and thresholds come from what is said of each by forests of the others
    #[arg(long, value_name = "DIR", default_value = "recordings")]
    recordings: PathBuf,
    /// The model's file; its public key is written beside it, with the ending .pub
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The key that signs it, Ed25519 as PKCS #8; made if it is missing [default: ~/.config/vedette/model.key]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// All that is random in training comes from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Trains, evaluates with each session held out in its turn, and writes the file.
pub fn run(args: &TrainArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let key = key(&key_path(args.key.as_deref())?)?;
    let sessions = evaluate::sessions(&find(&args.recordings)?)?;
    let model = evaluate::trained(&sessions, args.seed)?;
    let (held_out, pictures) = evaluate::held_out(&sessions, args.seed)?;
    let mut description = model.description().clone();
    description.card.extend(figures(&held_out));
    description.card.extend(pictures);
    let learnt: Vec<&str> = sessions.iter().filter(|session| session.teaches()).map(|session| session.name.as_str()).collect();
    description.card.extend(
        [(SESSIONS_LEARNT, learnt.join(" ")), (SESSION_DIGESTS, digests(&sessions)), ("seed", args.seed.to_string())]
            .map(|(key, value)| (key.to_owned(), value)),
    );
    let model = Model::new(description, model.forest().clone())?;
    let bytes = model.to_bytes(&key);
    write(&args.out, &bytes)?;
    let public = args.out.with_extension("pub");
    let hex: String = key.public_key().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    write(&public, format!("{hex}\n").as_bytes())?;
    for (key, value) in &model.description().card {
        output.line(&format!("{key}: {value}"))?;
    }
    output.line(&format!("{} has {} bytes; the public key is in {}", args.out.display(), bytes.len(), public.display()))?;
    Ok(Exit::Ok)
}

/// The beginnings of the digests of what was learnt from: by another name it is known, too.
fn digests(sessions: &[Session]) -> String {
    let files = sessions.iter().filter(|session| session.teaches()).filter_map(|one| one.recorded.manifest.files.get(OBSERVATIONS));
    let digests: Vec<&str> = files.filter_map(|file| file.sha256.get(..DIGEST_DIGITS)).collect();
    digests.join(" ")
}

/// What the model's card says of it: each session's figures are by a model that did not know the session.
fn figures(sum: &Sum) -> BTreeMap<String, String> {
    let f1 = sum.macro_f1.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    [
        ("held_out_attacks", sum.told.of.to_string()),
        ("held_out_told", percent(sum.told)),
        ("held_out_named", percent(sum.named)),
        ("held_out_macro_f1", f1),
        ("held_out_look_alikes_told", percent(sum.look_alikes.0)),
        ("held_out_look_alikes_paged", percent(sum.look_alikes.1)),
        ("held_out_placebos_told", percent(sum.placebos.0)),
        ("held_out_placebos_paged", percent(sum.placebos.1)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn key_path(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let home = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    Ok(config.ok_or_else(|| anyhow!("no home directory for the key: say --key FILE"))?.join("vedette/model.key"))
}

/// Reads the key; makes one, for its owner's eyes alone, where there is none.
fn key(path: &Path) -> anyhow::Result<Ed25519KeyPair> {
    if !path.exists() {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| anyhow!("the system gives no random numbers"))?;
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        file.write_all(made.as_ref()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ed25519KeyPair::from_pkcs8(&bytes).map_err(|error| anyhow!("{} is no Ed25519 key in PKCS #8: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vedette/model.key");

        let (made, read) = (key(&path).unwrap(), key(&path).unwrap());

        assert_eq!(made.public_key().as_ref(), read.public_key().as_ref());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.key");
        fs::write(&path, "secret").unwrap();

        let error = key(&path).unwrap_err().to_string();

        assert!(error.contains("model.key is no Ed25519 key"), "{error}");
    }
}
