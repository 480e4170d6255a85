//! Just enough of DNS messages (RFC 1035) for questions after A records and their answers.

use std::net::Ipv4Addr;

/// Longest message over UDP without extensions, bytes.
pub(super) const MAX_MESSAGE: usize = 512;
const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
/// Seconds that an answer may be kept.
const TTL: u32 = 5;

/// A question after the address of a name.
pub(super) fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let label = &label.as_bytes()[..label.len().min(63)];
        message.push(label.len() as u8);
        message.extend_from_slice(label);
    }
    message.push(0);
    message.extend_from_slice(&TYPE_A.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    message
}

/// The name that is asked for, and where the question ends. `None` for anything else than one question after an A record.
pub(super) fn asked(message: &[u8]) -> Option<(String, usize)> {
    let header = message.get(..HEADER)?;
    if header[2] & 0x80 != 0 || header[4..6] != [0, 1] {
        return None;
    }
    let (mut place, mut labels) = (HEADER, Vec::new());
    loop {
        let length = usize::from(*message.get(place)?);
        place += 1;
        if length == 0 {
            break;
        }
        labels.push(std::str::from_utf8(message.get(place..place + length).filter(|_| length < 64)?).ok()?);
        place += length;
    }
    let kind = message.get(place..place + 4)?;
    (kind == [0, 1, 0, 1]).then(|| (labels.join("."), place + 4))
}

/// The answer to a question that [`asked`] understood: an address, or that there is no such name.
pub(super) fn answer(question: &[u8], end: usize, address: Option<Ipv4Addr>) -> Vec<u8> {
    let mut message = question[..end].to_vec();
    // A response, recursion available; no error, or no such name.
    (message[2], message[3]) = (0x81, if address.is_some() { 0x80 } else { 0x83 });
    message[6..HEADER].copy_from_slice(&[0, u8::from(address.is_some()), 0, 0, 0, 0]);
    if let Some(address) = address {
        // The name is where the question has it.
        message.extend_from_slice(&[0xc0, HEADER as u8]);
        message.extend_from_slice(&TYPE_A.to_be_bytes());
        message.extend_from_slice(&CLASS_IN.to_be_bytes());
        message.extend_from_slice(&TTL.to_be_bytes());
        message.extend_from_slice(&[0, 4]);
        message.extend_from_slice(&address.octets());
    }
    message
}

/// The address in an answer to this question; `None` where it is another's answer or has none.
pub(super) fn address(question: &[u8], message: &[u8]) -> Option<Ipv4Addr> {
    let answers = message.get(6..8)?;
    if message.get(..2)? != question.get(..2)? || message[2] & 0x80 == 0 || answers != [0, 1] {
        return None;
    }
    let record = message.get(question.len()..)?;
    let octets: [u8; 4] = record.get(12..16)?.try_into().ok()?;
    (record[2..4] == TYPE_A.to_be_bytes()).then(|| octets.into())
}

/// The name of a pod by its address, as clusters have them: `10-213-5-9.shop.pod.cluster.local`.
pub(super) fn pod_name(address: Ipv4Addr) -> String {
    format!("{}.shop.pod.cluster.local", address.to_string().replace('.', "-"))
}

/// The address in a pod's name.
pub(super) fn pod_address(name: &str) -> Option<Ipv4Addr> {
    name.strip_suffix(".shop.pod.cluster.local")?.replace('-', ".").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_for_and_answered() {
        let pod = Ipv4Addr::new(10, 213, 5, 9);
        let question = question(7, &pod_name(pod));

        let (name, end) = asked(&question).unwrap();
        let found = answer(&question, end, pod_address(&name));
        let lost = answer(&question, end, None);

        assert_eq!(name, "10-213-5-9.shop.pod.cluster.local");
        assert_eq!(address(&question, &found), Some(pod));
        assert_eq!(address(&question, &lost), None);
        assert_eq!(lost[3] & 0xf, 3);
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        let whole = question(7, "a.b");

        assert!((0..whole.len()).all(|length| asked(&whole[..length]).is_none()));
        assert_eq!(asked(&answer(&whole, whole.len(), None)), None);
        assert_eq!(address(&question(8, "a.b"), &answer(&whole, whole.len(), Some(Ipv4Addr::LOCALHOST))), None);
    }
}
