//! The terminal: a screen of its own that is given back as it was, and keys.

use std::io::{self, Read as _, Write as _};

use crossterm::terminal;
use tokio::sync::mpsc;

use super::draw::Size;

/// Another screen, no cursor; and back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// To the corner; the rest of a line; the rest of the screen.
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";
/// Keys that wait; beyond it the thread that reads them waits too.
const KEYS: usize = 16;

/// What was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `q`, Escape by itself, Ctrl-C or Ctrl-D.
    Quit,
    /// Anything else: draws again.
    Other,
}

/// The terminal, ours until dropped.
pub struct Screen(());

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Where it cannot be asked for single keys.
    pub fn open() -> io::Result<(Self, mpsc::Receiver<Key>)> {
        terminal::enable_raw_mode()?;
        let screen = Self(());
        print(ENTER)?;
        let (sender, keys) = mpsc::channel(KEYS);
        // Reading cannot be cut short, so it has a thread that ends with the process.
        std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok(count) = io::stdin().read(&mut bytes) {
                if count == 0 || sender.blocking_send(pressed(&bytes[..count])).is_err() {
                    return;
                }
            }
        });
        Ok((screen, keys))
    }

    /// How large it is now.
    pub fn size(&self) -> Option<Size> {
        let (columns, rows) = terminal::size().ok()?;
        (columns > 0 && rows > 0).then_some(Size { columns: columns.into(), rows: rows.into() })
    }

    /// Draws over what was there: nothing flickers.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        // In raw mode a line feed does not go back to the first column.
        let body = lines.iter().map(|line| format!("{line}{CLEAR_LINE}")).collect::<Vec<_>>().join("\r\n");
        print(&format!("{HOME}{body}{CLEAR_BELOW}"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = print(LEAVE);
        let _ = terminal::disable_raw_mode();
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What a read from the terminal means; arrows and the like begin with Escape and are longer.
fn pressed(bytes: &[u8]) -> Key {
    let quits = |byte: &u8| matches!(byte, b'q' | b'Q' | 3 | 4);
    if bytes == [0x1b] || (bytes.first() != Some(&0x1b) && bytes.iter().any(quits)) { Key::Quit } else { Key::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_means_it_quits() {
        for (bytes, key) in [
            (&b"q"[..], Key::Quit),
            (b"\x1b", Key::Quit),
            (b"\x03", Key::Quit),
            (b"\x1b[A", Key::Other),
            (b"x", Key::Other),
            (b"\x1bq", Key::Other),
        ] {
            assert_eq!(pressed(bytes), key, "{bytes:?}");
        }
    }
}
