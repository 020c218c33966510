//! The control protocol's decoder: any bytes, cut anywhere.
//!
//! Holds: the frames that come out do not depend on how the bytes were cut; memory stays below what was pushed; a body
//! that parses as a message is the same message again after one more round.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sim::control::codec::{Decoder, encode};
use sim::control::proto::{Hello, Request, Response};

use crate::input::Input;

/// The first byte says how the rest is cut into pieces.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cut = usize::from(input.byte()) + 1;
    let stream = input.rest();
    let whole = frames(&[stream]);
    let pieces: Vec<&[u8]> = stream.chunks(cut).collect();
    assert_eq!(
        frames(&pieces),
        whole,
        "frames depend on how the stream is cut"
    );
    for body in &whole {
        round_trip::<Request>(body);
        round_trip::<Response>(body);
        round_trip::<Hello>(body);
    }
}

/// Bodies of the frames up to the first error.
fn frames(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    assert!(frame.fds.is_empty(), "no descriptor was pushed");
                    found.push(frame.body.to_vec());
                }
                Ok(None) => break,
                Err(_) => return found,
            }
        }
    }
    found
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + core::fmt::Debug>(body: &[u8]) {
    let Ok(message) = serde_json::from_slice::<T>(body) else {
        return;
    };
    // What came in one frame need not fit one again (escapes grow).
    let Ok(bytes) = encode(&message, 0) else {
        return;
    };
    let again = frames(&[&bytes]);
    assert_eq!(again.len(), 1, "an encoded message is one frame");
    assert_eq!(
        serde_json::from_slice::<T>(&again[0]).expect("what was encoded decodes"),
        message
    );
}

/// A conversation, whole and cut short.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let messages = [
        r#"{"version":1,"program":"0.1.0"}"#,
        r#"{"request":"status"}"#,
        r#"{"request":"ip-change","node":"minikube","args":["route","add","10.9.0.0/24","via","172.16.30.4"]}"#,
        r#"{"request":"icmp","target":{"kind":"pod","namespace":"default","name":"a"}}"#,
        r#"{"response":"error","kind":"not-found","message":"no"}"#,
        r#"{"response":"done"}"#,
    ];
    let mut stream = vec![3];
    let mut seeds = Vec::new();
    for message in messages {
        let length = u32::try_from(message.len()).expect("a short message");
        stream.extend(length.to_le_bytes());
        stream.extend(message.bytes());
        seeds.push(stream.clone());
    }
    seeds.push(vec![0, 0xff, 0xff, 0xff, 0xff]);
    seeds.push(stream[..stream.len() - 3].to_vec());
    seeds
}
