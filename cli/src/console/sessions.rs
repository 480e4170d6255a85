//! One-time tokens and the sessions that they become: pure, with the time passed in.

use sha2::{Digest, Sha256};

/// A session's life.
pub const HOURS: i64 = 8;
/// Most sessions at once; beyond it the oldest ends.
const MAX_SESSIONS: usize = 8;
/// Most one-time tokens that wait to be used; beyond it the oldest is void.
const MAX_INVITATIONS: usize = 4;
/// A one-time token that nobody used is void after this long: it may lie in a terminal's history.
const INVITATION_MS: i64 = 10 * 60 * 1000;
const SESSION_MS: i64 = HOURS * 60 * 60 * 1000;

/// Only digests are kept: comparing them tells nothing about what was shown.
type Kept = [u8; 32];

/// What a browser is given when it enters.
#[derive(Debug, PartialEq, Eq)]
pub struct Entered {
    /// For the cookie, which scripts cannot read. Every port of this machine's loopback is sent it.
    pub cookie: String,
    /// For a header, which only pages of this very port can set, since their storage is theirs alone.
    pub key: String,
    /// Until when, Unix milliseconds.
    pub ends_unix_ms: i64,
}

struct Session {
    cookie: Kept,
    key: Kept,
    ends_unix_ms: i64,
}

/// The sessions of one `vedette console`.
#[derive(Default)]
pub struct Sessions {
    invitations: Vec<(Kept, i64)>,
    open: Vec<Session>,
}

impl Sessions {
    /// Accepts a token once, from now on.
    pub fn invite(&mut self, token: &str, now_unix_ms: i64) {
        if self.invitations.len() >= MAX_INVITATIONS {
            self.invitations.remove(0);
        }
        self.invitations.push((digest(token), now_unix_ms + INVITATION_MS));
    }

    /// Turns a one-time token into a session; `secret` makes its two secrets. `None`: spent, void or never given.
    pub fn enter(&mut self, token: &str, now_unix_ms: i64, mut secret: impl FnMut() -> String) -> Option<Entered> {
        self.invitations.retain(|(_, until)| now_unix_ms < *until);
        let shown = digest(token);
        let place = self.invitations.iter().position(|(kept, _)| *kept == shown)?;
        self.invitations.remove(place);
        self.open.retain(|session| now_unix_ms < session.ends_unix_ms);
        if self.open.len() >= MAX_SESSIONS {
            self.open.remove(0);
        }
        let entered = Entered { cookie: secret(), key: secret(), ends_unix_ms: now_unix_ms + SESSION_MS };
        let (cookie, key) = (digest(&entered.cookie), digest(&entered.key));
        self.open.push(Session { cookie, key, ends_unix_ms: entered.ends_unix_ms });
        Some(entered)
    }

    /// Until when the session of this cookie and this key lasts; `None` where there is none.
    pub fn ends(&self, cookie: &str, key: &str, now_unix_ms: i64) -> Option<i64> {
        let (cookie, key) = (digest(cookie), digest(key));
        let is = |session: &&Session| session.cookie == cookie && session.key == key && now_unix_ms < session.ends_unix_ms;
        self.open.iter().find(is).map(|session| session.ends_unix_ms)
    }

    /// Ends a session.
    pub fn leave(&mut self, cookie: &str) {
        let cookie = digest(cookie);
        self.open.retain(|session| session.cookie != cookie);
    }
}

fn digest(text: &str) -> Kept {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(sessions: &mut Sessions, token: &str, now: i64) -> Option<Entered> {
        let mut count = 0;
        sessions.enter(token, now, || {
            count += 1;
            format!("{token}-{count}")
        })
    }

    #[test]
    fn a_token_opens_one_session() {
        let mut sessions = Sessions::default();
        sessions.invite("t", 0);

        let first = entered(&mut sessions, "t", 1).unwrap();
        let second = entered(&mut sessions, "t", 2);

        assert_eq!(second, None);
        assert_eq!(sessions.ends(&first.cookie, &first.key, 3), Some(1 + SESSION_MS));
        assert_eq!(sessions.ends(&first.cookie, &first.key, 1 + SESSION_MS), None);
    }

    #[test]
    fn a_cookie_without_its_key_is_worth_nothing() {
        let mut sessions = Sessions::default();
        sessions.invite("t", 0);
        let first = entered(&mut sessions, "t", 1).unwrap();

        assert_eq!(sessions.ends(&first.cookie, "", 2), None);
        assert_eq!(sessions.ends("", &first.key, 2), None);
        sessions.leave(&first.cookie);
        assert_eq!(sessions.ends(&first.cookie, &first.key, 2), None);
    }

    #[test]
    fn a_token_nobody_used_is_void_and_the_oldest_session_makes_room() {
        let mut sessions = Sessions::default();
        sessions.invite("late", 0);
        assert_eq!(entered(&mut sessions, "late", INVITATION_MS), None);
        let mut all = Vec::new();
        for number in 0..=MAX_SESSIONS {
            let token = format!("t{number}");
            sessions.invite(&token, 0);
            all.push(entered(&mut sessions, &token, 1).unwrap());
        }

        assert_eq!(sessions.ends(&all[0].cookie, &all[0].key, 2), None);
        assert!(all[1..].iter().all(|one| sessions.ends(&one.cookie, &one.key, 2).is_some()));
    }
}
