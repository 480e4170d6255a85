//! A name server of a test's own: knows one name by an A record, and says of every other that there is none.

use std::net::{Ipv4Addr, UdpSocket};

/// Longest question over UDP without extensions, bytes.
const MAX_QUESTION: usize = 512;

/// Answers on a socket for as long as the process lives.
pub fn serve(socket: &UdpSocket, known: &str, address: Ipv4Addr) {
    let mut buffer = [0; MAX_QUESTION];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        if let Some(answer) = answer(&buffer[..length], known, address) {
            let _ = socket.send_to(&answer, peer);
        }
    }
}

/// The answer to a message with one question; `None` for anything else.
fn answer(message: &[u8], known: &str, address: Ipv4Addr) -> Option<Vec<u8>> {
    let (mut end, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*message.get(end)?);
        end += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(message.get(end..end + length)?).to_lowercase());
        end += length;
    }
    let (named, is_a) = (labels.join(".") == known, message.get(end..end + 4)? == [0, 1, 0, 1]);
    let mut answer = message[..end + 4].to_vec();
    // A response to a recursive question; no error, or no such name. One question, and nothing yet.
    (answer[2], answer[3]) = (0x81, if named { 0x80 } else { 0x83 });
    answer[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    if named && is_a {
        answer[7] = 1;
        // The name is where the question has it; A, IN, five seconds, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_name_has_an_address() {
        let question = |kind: u8| [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1][..], b"A\x02bc\x00", &[0, kind, 0, 1]].concat();
        let of = |kind, known| answer(&question(kind), known, Ipv4Addr::new(192, 0, 2, 9));

        let found = of(1, "a.bc").expect("an answer");

        assert!(found.starts_with(&[7, 7, 0x81, 0x80, 0, 1, 0, 1]) && found.ends_with(&[0, 4, 192, 0, 2, 9]), "{found:?}");
        assert_eq!(of(28, "a.bc").expect("an answer")[2..8], [0x81, 0x80, 0, 1, 0, 0]);
        assert_eq!(of(1, "b.bc").expect("an answer")[2..8], [0x81, 0x83, 0, 1, 0, 0]);
        assert_eq!(answer(&question(1)[..14], "a.bc", Ipv4Addr::LOCALHOST), None);
    }
}
