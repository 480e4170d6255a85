//! The documents: every link leads somewhere, every page can be found, and every command that they show exists as they show it.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use vedette_tests::checkout;

/// Every document, by its path below the checkout.
fn documents() -> BTreeMap<String, String> {
    let listed = Command::new("git").args(["ls-files", "-z", "*.md"]).current_dir(checkout::root()).output().unwrap();
    assert!(listed.status.success());
    let names = String::from_utf8(listed.stdout).unwrap();
    let read = |name: &str| Some((name.to_owned(), fs::read_to_string(checkout::root().join(name)).ok()?));
    names.split('\0').filter(|name| !name.is_empty()).filter_map(read).collect()
}

/// A document's text without what is shown as code, and the lines of its code.
fn split(text: &str) -> (String, Vec<String>) {
    let (mut prose, mut code, mut fenced) = (String::new(), Vec::new(), false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            code.push(line.to_owned());
        } else {
            for (place, part) in line.split('`').enumerate() {
                if place % 2 == 1 { code.push(part.to_owned()) } else { prose.push_str(part) }
            }
            prose.push('\n');
        }
    }
    (prose, code)
}

/// The targets of a text's links.
fn links(prose: &str) -> Vec<&str> {
    prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// What a heading is linked by, as GitHub and mdBook make it.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let heading = |line: &&str| {
        fenced ^= line.starts_with("```");
        !fenced && line.starts_with('#')
    };
    text.lines().filter(heading).map(|line| slug(line.trim_start_matches('#'))).collect()
}

/// A path without `..`.
fn resolved(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = out.pop(),
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    let mut broken = Vec::new();
    for (path, text) in &documents {
        for target in links(&split(text).0) {
            if ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let there = if file.is_empty() { PathBuf::from(path) } else { resolved(&Path::new(path).parent().unwrap().join(file)) };
            let known = documents.get(&there.display().to_string()).map(|text| anchors(text));
            let reaches = match known {
                Some(anchors) => anchor.is_empty() || anchors.contains(anchor),
                None => anchor.is_empty() && checkout::root().join(&there).exists(),
            };
            if !reaches {
                broken.push(format!("{path}: {target}"));
            }
        }
    }

    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_page_can_be_reached_from_the_readme_or_the_guide() {
    let documents = documents();
    let mut reached = BTreeSet::new();
    let mut waiting = vec!["README.md".to_owned(), "docs/SUMMARY.md".to_owned()];
    while let Some(path) = waiting.pop() {
        let Some(text) = documents.get(&path) else { continue };
        let folder = Path::new(&path).parent().unwrap();
        let targets = links(text).into_iter().map(|target| target.split('#').next().unwrap_or(target));
        waiting
            .extend(targets.map(|target| resolved(&folder.join(target)).display().to_string()).filter(|target| !reached.contains(target)));
        reached.insert(path);
    }

    let pages = documents.keys().filter(|path| path.starts_with("docs/") && !path.starts_with("docs/decisions/"));
    let missing: Vec<_> = pages.filter(|path| !reached.contains(*path)).collect();

    assert!(missing.is_empty(), "nobody finds {missing:?}");
}

/// The words of a command line up to what a shell would take for something else.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut quote = None;
    let mut word = String::new();
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '"' | '\'') => quote = Some(c),
            (None, '#' | '|' | '>' | '<' | '&' | ';') => break,
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (None, c) => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// What `vedette SUBCOMMANDS --help` says; `None` where there is no such command.
fn help(subcommands: &[&str]) -> Option<String> {
    let output = Command::new(checkout::binary("vedette")).args(subcommands).arg("--help").env("NO_COLOR", "1").output();
    let output = output.expect("vedette is built (cargo build --workspace --bins)");
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// The commands that a page of help lists.
fn listed(help: &str) -> BTreeSet<&str> {
    let commands = help.split("Commands:\n").nth(1).unwrap_or("");
    let lines = commands.lines().take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    lines.filter_map(|line| line.split_whitespace().next()).collect()
}

/// What is wrong with a command line; `None`: nothing.
fn wrong(words: &[String], pages: &mut BTreeMap<Vec<String>, Option<String>>) -> Option<String> {
    let mut page = |path: &[String]| {
        let asked = || help(&path.iter().map(String::as_str).collect::<Vec<_>>());
        pages.entry(path.to_vec()).or_insert_with(asked).clone()
    };
    let mut path: Vec<String> = Vec::new();
    let mut text = page(&path)?;
    let mut flags = Vec::new();
    let mut before = "";
    for word in &words[1..] {
        if let Some(flag) = word.strip_prefix("--") {
            flags.push(format!("--{}", flag.split('=').next().unwrap_or(flag)));
        } else if listed(&text).contains(word.as_str()) {
            path.push(word.clone());
            text = page(&path)?;
        } else if !listed(&text).is_empty() && !before.starts_with('-') && !word.starts_with('-') && word.chars().all(char::is_lowercase) {
            return Some(format!("no command {word:?}"));
        }
        before = word;
    }
    let known = |flag: &String| text.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|word| word == flag);
    flags.into_iter().find(|flag| !known(flag) && flag != "--help").map(|flag| format!("no flag {flag}"))
}

#[test]
fn every_command_shown_exists_as_it_is_shown() {
    let mut pages = BTreeMap::new();
    let mut broken = Vec::new();
    let mut checked = 0;
    // Decisions may name what was, or what will be.
    for (path, text) in documents().into_iter().filter(|(path, _)| !path.starts_with("docs/decisions/")) {
        for line in split(&text).1 {
            let line = line.trim().trim_start_matches("$ ");
            if !line.starts_with("vedette ") {
                continue;
            }
            checked += 1;
            if let Some(problem) = wrong(&words(line), &mut pages) {
                broken.push(format!("{path}: {line}: {problem}"));
            }
        }
    }

    assert!(checked > 50, "{checked}");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_heading_is_linked_as_its_readers_link_it() {
    assert_eq!(slug(" Other tools' alerts as labels"), "other-tools-alerts-as-labels");
    assert_eq!(slug(" Ways to hide, and what they meet"), "ways-to-hide-and-what-they-meet");
    assert_eq!(words("vedette query \"select 1 > 0\" -o csv > x # y"), ["vedette", "query", "select 1 > 0", "-o", "csv"]);
}
