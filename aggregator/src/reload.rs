//! The configuration's file while the aggregator runs: profiles of namespaces are put into use, and what else changed is said to wait for the
//! next start.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, watch};

use crate::{
    Config,
    ingest::Work,
    problems::{Problems, Source},
    stamp::Stamp,
};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Follows the file until told to stop. `used` is what the aggregator was started with.
pub async fn follow(path: PathBuf, used: Config, work: mpsc::Sender<Work>, problems: Arc<Problems>, mut stop: watch::Receiver<bool>) {
    let mut follow = Follow { path, used, seen: None };
    let mut last = None;
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = async { let _ = stop.wait_for(|stop| *stop).await; } => return,
            _ = tick.tick() => {}
        }
        let told = match follow.look() {
            Look::Same => continue,
            Look::Changed { namespaces, problem } => {
                if let Some(namespaces) = namespaces
                    && work.send(Work::Namespaces(namespaces)).await.is_err()
                {
                    return;
                }
                problem
            }
        };
        if told == last {
            continue;
        }
        match &told {
            Some(problem) => {
                tracing::warn!(problem, "configuration");
                problems.state(Source::Configuration, problem.as_str());
            }
            None => problems.clear(Source::Configuration),
        }
        last = told;
    }
}

struct Follow {
    path: PathBuf,
    used: Config,
    /// The version that was looked at last; `None` before the first look, and while it cannot be read.
    seen: Option<Stamp>,
}

/// What a look came to.
#[derive(Debug, PartialEq)]
enum Look {
    /// The file is as it was.
    Same,
    /// It is another.
    Changed {
        /// To be used from now on, where they changed.
        namespaces: Option<vedette_detect::Namespaces>,
        /// What is wrong with it, or waits for the next start.
        problem: Option<String>,
    },
}

impl Follow {
    fn look(&mut self) -> Look {
        let now = std::fs::metadata(&self.path).ok().map(|file| Stamp::of(&file));
        if now.is_some() && now == self.seen {
            return Look::Same;
        }
        self.seen = now;
        match read(&self.path) {
            Ok(fresh) => {
                let namespaces = (fresh.detect.namespaces != self.used.detect.namespaces).then(|| fresh.detect.namespaces.clone());
                if let Some(namespaces) = &namespaces {
                    self.used.detect.namespaces = namespaces.clone();
                }
                let waiting = different(&self.used, &fresh);
                let says = || format!("configuration: {} changed, and takes effect at the next start", waiting.join(", "));
                Look::Changed { namespaces, problem: (!waiting.is_empty()).then(says) }
            }
            Err(problem) => Look::Changed { namespaces: None, problem: Some(format!("{problem}; what was read before stays in use")) },
        }
    }
}

fn read(path: &Path) -> Result<Config, String> {
    let config = Config::load(path).map_err(|error| error.to_string())?;
    config.detect.check().map_err(|error| format!("configuration {}: {error}", path.display()))?;
    config.policy.check().map_err(|error| format!("configuration {}: {error}", path.display()))?;
    Ok(config)
}

/// The keys and tables at the top that two configurations have different.
fn different(one: &Config, other: &Config) -> Vec<String> {
    let (Ok(one), Ok(other)) = (toml::Table::try_from(one), toml::Table::try_from(other)) else {
        return if one == other { Vec::new() } else { vec!["something".to_owned()] };
    };
    let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    keys.into_iter().filter(|key| one.get(*key) != other.get(*key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use vedette_detect::{Namespaces, Profile};

    use super::*;

    fn follow_file(text: &str) -> (tempfile::TempDir, Follow) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aggregator.toml");
        std::fs::write(&path, text).unwrap();
        let used = Config::load(&path).unwrap();
        (folder, Follow { path, used, seen: None })
    }

    /// As a ConfigMap's file changes: another one takes its place.
    fn replace(follow: &Follow, text: &str) {
        let coming = follow.path.with_extension("coming");
        std::fs::write(&coming, text).unwrap();
        std::fs::rename(coming, &follow.path).unwrap();
    }

    fn quiet() -> Option<Namespaces> {
        Some(Namespaces([("dev-*".to_owned(), Profile::Quiet)].into()))
    }

    #[test]
    fn a_changed_profile_is_used_once_and_the_first_look_changes_nothing() {
        let (_folder, mut follow) = follow_file("");
        assert_eq!(follow.look(), Look::Changed { namespaces: None, problem: None });
        assert_eq!(follow.look(), Look::Same);

        replace(&follow, "[detect.namespaces]\n\"dev-*\" = \"quiet\"\n");

        assert_eq!(follow.look(), Look::Changed { namespaces: quiet(), problem: None });
        assert_eq!(follow.look(), Look::Same);
        replace(&follow, "");
        assert_eq!(follow.look(), Look::Changed { namespaces: Some(Namespaces::default()), problem: None });
    }

    #[test]
    fn what_else_changed_waits_for_the_next_start_and_is_said() {
        let (_folder, mut follow) = follow_file("");

        replace(&follow, "cluster = \"prod\"\n[detect]\nmax_listed = 7\n[detect.namespaces]\n\"dev-*\" = \"quiet\"\n");

        let problem = "configuration: cluster, detect changed, and takes effect at the next start".to_owned();
        assert_eq!(follow.look(), Look::Changed { namespaces: quiet(), problem: Some(problem) });
        replace(&follow, "[detect.namespaces]\n\"dev-*\" = \"quiet\"\n");
        assert_eq!(follow.look(), Look::Changed { namespaces: None, problem: None });
    }

    #[test]
    fn a_file_that_is_wrong_or_gone_changes_nothing_and_is_named() {
        let (_folder, mut follow) = follow_file("[detect.namespaces]\n\"dev-*\" = \"quiet\"\n");
        for (text, said) in [
            ("[detect.namespaces]\nshop = \"loud\"\n", "aggregator.toml: line 2: "),
            ("[detect.namespaces]\nShop = \"strict\"\n", "aggregator.toml: detect.namespaces: \"Shop\""),
            ("[detect]\nmax_listed = 0\n", "aggregator.toml: detect.max_listed must be at least 1"),
        ] {
            replace(&follow, text);

            let Look::Changed { namespaces: None, problem: Some(problem) } = follow.look() else { panic!("{text}") };

            assert!(problem.contains(said) && problem.ends_with("; what was read before stays in use"), "{problem}");
        }
        std::fs::remove_file(&follow.path).unwrap();
        let gone = follow.look();
        assert!(matches!(&gone, Look::Changed { namespaces: None, problem: Some(problem) } if problem.contains("cannot read")), "{gone:?}");
        assert_eq!(follow.look(), gone, "it is looked for again");
        replace(&follow, "");
        assert_eq!(follow.look(), Look::Changed { namespaces: Some(Namespaces::default()), problem: None });
    }

    #[tokio::test(start_paused = true)]
    async fn the_pipeline_is_told_and_a_wrong_file_stands_among_the_problems() {
        let (_folder, file) = follow_file("");
        let (work, mut told) = mpsc::channel(1);
        let (problems, (stop, stopping)) = (Arc::new(Problems::default()), watch::channel(false));
        let task = tokio::spawn(follow(file.path.clone(), file.used.clone(), work, Arc::clone(&problems), stopping));
        tokio::time::sleep(LOOK * 2).await;

        replace(&file, "[detect.namespaces]\n\"dev-*\" = \"quiet\"\n");
        let first = told.recv().await;
        replace(&file, "[detect\n");
        tokio::time::sleep(LOOK * 2).await;
        let wrong = problems.lines();
        replace(&file, "[detect.namespaces]\n\"dev-*\" = \"quiet\"\n");
        tokio::time::sleep(LOOK * 2).await;
        stop.send(true).unwrap();
        task.await.unwrap();

        assert!(matches!(first, Some(Work::Namespaces(namespaces)) if Some(&namespaces) == quiet().as_ref()));
        assert!(wrong.len() == 1 && wrong[0].contains("aggregator.toml"), "{wrong:?}");
        assert_eq!((problems.lines(), told.recv().await.is_none()), (Vec::new(), true));
    }
}
