//! A capture's filter, its records and its ring, with ends that lie.
//!
//! Holds: any text is a filter or an error, and a filter says of any bytes the same each time; words from a ring are a record of
//! just that length or none; whatever stands in the ring's memory, neither end leaves it, a reader gets no record longer than
//! there are, and a writer loses a record or writes it.

use std::os::fd::AsFd as _;

use tap_bridge::layer::capture::filter::Filter;
use tap_bridge::layer::capture::record::decode;
use tap_bridge::layer::capture::ring::{MAX_RECORD, MIN_WORDS, Reader, Writer, create};
use tap_bridge::sys::shm;

use crate::input::Input;

/// Cells of the ring's head, and of the first records behind it.
const CELLS: usize = 32 + 64;

/// Length of the expression, the expression, how many bytes of a packet, these; then an operation on the ring in each ten.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let len = usize::from(input.byte());
    let expression = String::from_utf8_lossy(input.bytes(len)).into_owned();
    let len = usize::from(input.byte());
    let packet = input.bytes(len);
    if let Ok(filter) = Filter::parse(&expression) {
        let said = filter.matches(packet, packet.len());
        let again = Filter::parse(&expression).expect("it was one before");
        assert_eq!(again.matches(packet, packet.len()), said);
        let _ = filter.matches(packet, usize::MAX);
    }
    ring(&mut input).expect("memory for a ring");
}

fn ring(input: &mut Input<'_>) -> std::io::Result<()> {
    let memory = create(MIN_WORDS)?;
    let mut writer = Writer::new(&memory, MIN_WORDS)?;
    let mut reader = Reader::new(&memory, MIN_WORDS)?;
    let (mut words, mut content) = (Vec::new(), Vec::new());
    while !input.is_empty() {
        let (op, cell) = (input.byte(), usize::from(input.byte()) % CELLS);
        let value = (0..4).fold(0, |value, _| value << 16 | u64::from(input.word()));
        match op % 6 {
            0 | 1 => shm::set(memory.as_fd(), cell, value)?,
            2 => shm::set(memory.as_fd(), cell, value % (MIN_WORDS as u64 + 2))?,
            3 => {
                let len = usize::try_from(value % MAX_RECORD as u64).unwrap_or(0) + 1;
                let all = (0..len as u64).map(|n| if n == 0 { len as u64 } else { value ^ n });
                writer.push(len, all);
            }
            4 => {
                let _ = writer.flush();
            }
            _ => {
                let _ = reader.prepare_sleep();
                reader.end_sleep();
            }
        }
        if reader.pop(&mut words) == Ok(true) {
            assert!((1..=MAX_RECORD).contains(&words.len()));
            if let Some(record) = decode(&words, &mut content) {
                assert_eq!(record.words(), words.len());
            }
        }
    }
    Ok(())
}

/// Filters of each kind over a packet, and rings that are used as they should be and not.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let expressions = [
        "",
        "icmp",
        "tcp port 80 and not host 10.0.0.1",
        "src net 10.0.0.0/8 or (udp and greater 100)",
        "ip[8] < 64 && tcp[tcpflags] & tcp-syn != 0",
        "ether host 02:00:00:00:00:01",
        "((arp))",
    ];
    let mut seeds = Vec::new();
    for expression in expressions {
        let mut seed = vec![u8::try_from(expression.len()).unwrap_or(0)];
        seed.extend(expression.bytes());
        seed.push(60);
        seed.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45]);
        seed.resize(seed.len() + 45, 6);
        for op in [3, 4, 3, 3, 4, 5, 2, 0] {
            seed.extend([op, 8, 0, 0, 0, 0, 0, 0, 0, 40]);
        }
        seeds.push(seed);
    }
    seeds
}
