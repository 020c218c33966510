//! What a row is, and how both sides' answers to it are compared.

use std::collections::BTreeMap;
use std::time::Duration;

use router_core::testing::{Harness, Packet, decode};
use router_core::{PortId, Snapshot};

use crate::kernel::Kernel;

/// Frames with the ports by which they left, oldest first.
pub(crate) type Frames = Vec<(PortId, Vec<u8>)>;

/// A node: the kernel's or ours.
pub(crate) trait Side {
    /// Hands a frame in; everything that comes out at once.
    fn send(&mut self, port: PortId, frame: &[u8]) -> Frames;

    /// Lets time pass until `count` frames have come out of timers.
    fn wait(&mut self, count: usize) -> Frames;
}

/// The router.
struct Ours(Harness);

impl Side for Ours {
    fn send(&mut self, port: PortId, frame: &[u8]) -> Frames {
        self.0.rx_bytes(&[(port, frame.to_vec())]);
        self.0.take_all()
    }

    fn wait(&mut self, count: usize) -> Frames {
        let mut frames = Frames::new();
        for _ in 0..600 {
            if frames.len() >= count {
                break;
            }
            self.0.advance(Duration::from_millis(100));
            frames.extend(self.0.take_all());
        }
        frames
    }
}

/// What a row's steps speak to: a side that remembers everything that came out.
pub(crate) struct Bench<'a> {
    side: &'a mut dyn Side,
    came_out: Frames,
    known_ids: Vec<[u8; 2]>,
}

impl Bench<'_> {
    /// Hands a frame in; what comes out, for steps that depend on it (the port that a translation chose).
    pub(crate) fn send(&mut self, port: PortId, frame: &Packet) -> Frames {
        self.send_bytes(port, &frame.bytes())
    }

    /// As [`Bench::send`], bytes as they are.
    pub(crate) fn send_bytes(&mut self, port: PortId, frame: &[u8]) -> Frames {
        if let Some(&[high, low]) = frame.get(18..20) {
            self.known_ids.push([high, low]);
        }
        let frames = self.side.send(port, frame);
        self.came_out.extend(frames.iter().cloned());
        frames
    }

    /// Lets time pass until `count` frames have come out of timers.
    pub(crate) fn wait(&mut self, count: usize) {
        let frames = self.side.wait(count);
        self.came_out.extend(frames);
    }
}

/// What a row expects of the comparison.
#[derive(Clone, Copy)]
pub(crate) enum Differs {
    /// Nothing differs.
    No,
    /// Linux sends something, the router nothing: why.
    LinuxAlone(&'static str),
    /// These differ, and nothing more: what makes both the same, and why.
    But(fn(&mut Frames), &'static str),
    /// Each chooses these at random: what makes both the same, and what they are.
    Random(fn(&mut Frames), &'static str),
    /// The router goes on where Linux has stopped: why.
    RouterLonger(&'static str),
}

/// What a row does with a node.
pub(crate) type Steps = std::sync::Arc<dyn Fn(&mut Bench<'_>) + Send + Sync>;

/// One row of a table.
#[derive(Clone)]
pub(crate) struct Row {
    /// The rule, in a sentence.
    pub(crate) says: &'static str,
    /// The node.
    pub(crate) node: Snapshot,
    /// What is done to it.
    pub(crate) steps: Steps,
    /// What may differ.
    pub(crate) differs: Differs,
}

/// A row of frames that are handed in one after the other.
pub(crate) fn row<const N: usize>(
    says: &'static str,
    node: Snapshot,
    frames: [(PortId, Packet); N],
) -> Row {
    steps(says, node, move |bench| {
        for (port, frame) in &frames {
            bench.send(*port, frame);
        }
    })
}

/// A row of steps.
pub(crate) fn steps(
    says: &'static str,
    node: Snapshot,
    steps: impl Fn(&mut Bench<'_>) + Send + Sync + 'static,
) -> Row {
    Row {
        says,
        node,
        steps: std::sync::Arc::new(steps),
        differs: Differs::No,
    }
}

impl Row {
    /// With a difference that is meant.
    pub(crate) fn differs(mut self, differs: Differs) -> Self {
        self.differs = differs;
        self
    }
}

/// Plays every row on both sides, some at once: most of the time goes into waiting for the kernel's making and unmaking
/// of devices.
///
/// # Panics
/// When one of them differs in what it must not, with all that do; or when what may differ does not.
pub(crate) fn compare(rows: &[Row]) {
    const AT_ONCE: usize = 4;
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let shares: Vec<_> = rows
            .chunks(rows.len().div_ceil(AT_ONCE))
            .map(|share| scope.spawn(|| share.iter().filter_map(both).collect::<Vec<String>>()))
            .collect();
        shares
            .into_iter()
            .flat_map(|share| {
                share
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    assert!(
        wrong.is_empty(),
        "{} rows:\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

/// What is wrong with a row.
fn both(row: &Row) -> Option<String> {
    let linux = play(row, &mut Kernel::new(&row.node));
    let router = play(row, &mut Ours(Harness::new(row.node.clone())));
    let what = judge(row.differs, linux, router).err()?;
    Some(format!("{}\n{what}", row.says))
}

fn play(row: &Row, side: &mut dyn Side) -> Frames {
    let mut bench = Bench {
        side,
        came_out: Frames::new(),
        known_ids: Vec::new(),
    };
    (row.steps)(&mut bench);
    let Bench {
        mut came_out,
        known_ids,
        ..
    } = bench;
    for (_, frame) in &mut came_out {
        normalise(frame, &known_ids);
    }
    came_out
}

/// Identifications that the node chose become 0. One that came in with a frame stays, so that it must be kept.
fn normalise(frame: &mut [u8], known: &[[u8; 2]]) {
    let is_ipv4 = frame.len() >= 34 && frame[12..14] == [8, 0];
    if is_ipv4 && !known.contains(&[frame[18], frame[19]]) {
        frame[18..20].fill(0);
        rewrite_checksum(frame);
    }
}

/// Computes the header checksum anew: for what is made equal on both sides.
pub(crate) fn rewrite_checksum(frame: &mut [u8]) {
    let header = 14 + usize::from(frame[14] & 15) * 4;
    frame[24..26].fill(0);
    let sum = router_core::testing::packet::naive_checksum(&frame[14..header]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

fn judge(differs: Differs, linux: Frames, router: Frames) -> Result<(), String> {
    let by_port = |frames: Frames| {
        let mut ports: BTreeMap<PortId, Vec<Vec<u8>>> = BTreeMap::new();
        for (port, frame) in frames {
            ports.entry(port).or_default().push(frame);
        }
        ports
    };
    match differs {
        Differs::No => {
            let (linux, router) = (by_port(linux), by_port(router));
            same(&linux, &router)
        }
        Differs::LinuxAlone(why) => match (linux.is_empty(), router.is_empty()) {
            (false, true) => Ok(()),
            (true, true) => Err(format!("Linux sends nothing either ({why})")),
            _ => Err(format!(
                "the router should send nothing ({why}):\n{}",
                show(&router)
            )),
        },
        Differs::But(level, why) => {
            if same(&by_port(linux.clone()), &by_port(router.clone())).is_ok() {
                return Err(format!("nothing differs any more ({why})"));
            }
            let levelled = |mut frames: Frames| {
                level(&mut frames);
                by_port(frames)
            };
            same(&levelled(linux), &levelled(router))
        }
        Differs::Random(level, what) => {
            let levelled = |mut frames: Frames| {
                level(&mut frames);
                by_port(frames)
            };
            same(&levelled(linux), &levelled(router)).map_err(|e| format!("beside {what}: {e}"))
        }
        Differs::RouterLonger(why) => {
            if router.len() <= linux.len() {
                return Err(format!("the router does not go on ({why})"));
            }
            let begun = router[..linux.len()].to_vec();
            same(&by_port(linux), &by_port(begun))
        }
    }
}

fn same(
    linux: &BTreeMap<PortId, Vec<Vec<u8>>>,
    router: &BTreeMap<PortId, Vec<Vec<u8>>>,
) -> Result<(), String> {
    let ports: std::collections::BTreeSet<_> = linux.keys().chain(router.keys()).collect();
    let none = Vec::new();
    for port in ports {
        let (expected, actual) = (
            linux.get(port).unwrap_or(&none),
            router.get(port).unwrap_or(&none),
        );
        for (expected, actual) in expected.iter().zip(actual) {
            if expected != actual {
                return Err(format!(
                    "port {}, Linux left, router right:\n{}",
                    port.0,
                    decode::diff(expected, actual)
                ));
            }
        }
        let (more, whose) = if expected.len() > actual.len() {
            (&expected[actual.len()..], "Linux")
        } else {
            (&actual[expected.len()..], "the router")
        };
        if !more.is_empty() {
            let frames = more.iter().map(|f| (*port, f.clone())).collect::<Vec<_>>();
            return Err(format!("{whose} sends more:\n{}", show(&frames)));
        }
    }
    Ok(())
}

fn show(frames: &[(PortId, Vec<u8>)]) -> String {
    frames
        .iter()
        .map(|(port, frame)| format!("port {}:\n{}\n", port.0, decode::decode(frame).join("\n")))
        .collect()
}
