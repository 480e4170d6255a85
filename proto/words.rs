//! The words for the contract's enumerations: one spelling in SQL, command line, exports and documents.

use std::fmt;

use crate::v1::{
    AlertState, Answer, ApplyChange, BaselineState, CrossCheckCause, CrossCheckMetric, CrossCheckOutcome, ExceptionSource, Family,
    Handling, Kind, LabelSource, ModelState, NodeState, Origin, Severity, Withheld, Workload,
};

macro_rules! words {
    ($type:ident { $( $variant:ident $word:literal, )* }) => {
        impl $type {
            /// The word for it; `""` for the unspecified value.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { Self::Unspecified => "", $( Self::$variant => $word, )* }
            }

            /// The value with this word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $( $word => Some(Self::$variant), )* _ => None }
            }

            /// Every value but the unspecified one.
            pub const WORDS: &'static [Self] = &[ $( Self::$variant, )* ];
        }
    };
}

words!(Kind {
    Normal "normal",
    Mining "mining",
    Scan "scan",
    Flood "flood",
    CrashLoop "crash_loop",
    Exfiltration "exfiltration",
    Recon "recon",
    ForkBomb "fork_bomb",
    MemoryLeak "memory_leak",
    DiskFill "disk_fill",
    Unknown "unknown",
});
words!(Severity { Note "note", Ticket "ticket", Page "page", });
words!(Withheld {
    Observing "observing",
    PageBudget "page budget",
    TicketBudget "ticket budget",
    Exception "exception",
    Answered "answered",
});
words!(AlertState { Observing "observing", Enabled "enabled", Disabled "disabled", });
words!(ExceptionSource { Operator "operator", File "file", Answer "answer", });
words!(ApplyChange { Added "added", Changed "changed", Unchanged "unchanged", Removed "removed", });
words!(Origin { Live "live", Late "late", Replay "replay", });
words!(Family {
    Cpu "cpu",
    Memory "memory",
    Disk "disk",
    NetworkVolume "network volume",
    NetworkConnections "network connections",
    Processes "processes",
    Lifecycle "lifecycle",
    External "external",
});
words!(LabelSource { Operator "operator", Simulation "simulation", Import "import", Alertmanager "alertmanager", });
words!(ModelState { Idle "idle", Shadow "shadow", Serving "serving", });
words!(Answer { Attack "attack", Expected "expected", NothingThere "nothing-there", Unsure "unsure", Accepted "accepted", });
words!(Handling {
    Acknowledged "acknowledged",
    Snoozed "snoozed",
    Commented "commented",
    Unacknowledged "unacknowledged",
    Woken "woken",
});
words!(NodeState { Live "live", Blind "blind", Silent "silent", Left "left", NoAgent "no_agent", });
words!(CrossCheckMetric {
    Cpu "cpu",
    WorkingSet "working_set",
    NetRx "net_rx",
    NetTx "net_tx",
    Restarts "restarts",
    NodeCpu "node_cpu",
    NodeMemoryAvailable "node_memory_available",
    NodeNetRx "node_net_rx",
    NodeNetTx "node_net_tx",
});
words!(CrossCheckOutcome { Unknown "unknown", Agree "agree", SourceBroken "source_broken", Disagree "disagree", });
words!(CrossCheckCause {
    OwnHistory "own_history",
    TheirHistory "their_history",
    NotExported "not_exported",
    Unreachable "unreachable",
    TargetMissing "target_missing",
    LabelsLost "labels_lost",
    ScrapeGap "scrape_gap",
    Stale "stale",
    Clock "clock",
});
words!(BaselineState { Learning "learning", Ready "ready", Frozen "frozen", });

impl Kind {
    /// What people are shown first: the effect, with the kind as a question.
    #[must_use]
    pub const fn effect(self) -> &'static str {
        match self {
            Self::Unspecified | Self::Unknown => "unexplained change",
            Self::Normal => "ordinary work",
            Self::Mining => "unexplained CPU (mining?)",
            Self::Scan => "connection sweep (scan?)",
            Self::Flood => "traffic surge (flood?)",
            Self::CrashLoop => "repeated failure (crash loop)",
            Self::Exfiltration => "outbound surge (exfiltration?)",
            Self::Recon => "API connection storm (recon?)",
            Self::ForkBomb => "process explosion (fork bomb?)",
            Self::MemoryLeak => "growing memory (leak?)",
            Self::DiskFill => "disk filling up (disk fill?)",
        }
    }

    /// MITRE ATT&CK (Enterprise v17) techniques that the kind may be.
    #[must_use]
    pub const fn attack_techniques(self) -> &'static [&'static str] {
        match self {
            Self::Mining => &["T1496.001"],
            Self::Scan => &["T1046"],
            Self::Flood | Self::ForkBomb => &["T1499"],
            Self::Exfiltration => &["T1041", "T1048"],
            Self::Recon => &["T1613", "T1552.007"],
            _ => &[],
        }
    }
}

impl fmt::Display for Workload {
    /// `cluster/namespace/Kind/name/container`; parts that are not known are `-`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |text: &'_ str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        write!(
            f,
            "{}/{}/{}/{}/{}",
            part(&self.cluster),
            part(&self.namespace),
            part(&self.owner_kind),
            part(&self.owner_name),
            part(&self.container_name)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        assert!(Kind::WORDS.iter().all(|&kind| Kind::from_word(kind.word()) == Some(kind)));
        assert!(Answer::WORDS.iter().all(|&answer| Answer::from_word(answer.word()) == Some(answer)));
    }
}
