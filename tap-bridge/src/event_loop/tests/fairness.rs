//! Who floods with superframes, and who is served beside.

use std::sync::Arc;

use router_core::frame::{Gso, GsoKind, Offload, Partial};

use super::*;
use crate::device::vnet;
use crate::offload::MAX_SUPERFRAME;
use crate::tails::Tails;

const FLOODERS: [PortId; 2] = [PortId(2), PortId(3)];
const SINK: PortId = PortId(4);
const BREATHS: u8 = 200;

/// The largest superframe of TCP, as a device gives it.
fn superframe() -> Vec<u8> {
    let mut head = vec![0; MAX_SUPERFRAME];
    head[12..14].copy_from_slice(&[8, 0]);
    let partial = Some(Partial {
        start: 34,
        offset: 16,
    });
    let gso = Some(Gso {
        kind: GsoKind::TcpV4,
        size: 1448,
        ecn: false,
    });
    let header = vnet::write(Offload { partial, gso }, &head);
    [&header[..], &head].concat()
}

/// A device whose pod never has to wait to send.
struct Flooder {
    pod: UnixDatagram,
    frame: Vec<u8>,
}

impl Flooder {
    fn attach(l: &mut EventLoop<Patch>, id: PortId, tails: &Arc<Tails>) -> Self {
        let (near, pod) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        pod.set_nonblocking(true).unwrap();
        let port = TapPort::new(near.into(), "pod", 1500).with_offload(Arc::clone(tails));
        l.add_port(id, port).unwrap();
        Self {
            pod,
            frame: superframe(),
        }
    }

    /// Sends until its device is full.
    fn flood(&self) {
        while self.pod.send(&self.frame).is_ok() {}
    }
}

/// INV-11: the small frame of a breath is in the batch of that breath, and what is read before it is bounded in bytes.
#[test]
fn pods_that_flood_with_superframes_delay_a_small_frame_by_no_breath() {
    let cables = [(FLOODERS[0], SINK), (FLOODERS[1], SINK), (A, B)];
    let mut l = patch(&cables, 256);
    let tails = Tails::new().unwrap();
    let flooders = FLOODERS.map(|id| Flooder::attach(&mut l, id, &tails));
    let (mut a, mut b) = (Station::attach(&mut l, A), Station::attach(&mut l, B));
    let mut sink = Station::attach(&mut l, SINK);
    let mut whole = 0;
    for breath in 0..BREATHS {
        flooders.iter().for_each(Flooder::flood);
        a.send(breath);
        l.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(b.receive(), [breath], "in its breath");
        let batch = l.engine_mut().seen.pop().unwrap();
        let of_a = batch.iter().position(|&port| port == A).unwrap();
        assert!(of_a * MAX_SUPERFRAME <= BATCH_BYTES, "{of_a} before it");
        whole += batch.len() - 1;
        sink.receive();
    }
    let flooded = l.port_counters().filter(|(id, _)| FLOODERS.contains(id));
    let flooded: Vec<u64> = flooded.map(|(_, counters)| counters.rx_frames).collect();
    assert_eq!(flooded.iter().sum::<u64>(), whole as u64);
    let (least, most) = (flooded[0].min(flooded[1]), flooded[0].max(flooded[1]));
    assert!(
        least >= BREATHS.into() && most <= 2 * least,
        "{flooded:?}: both are served"
    );
    // The sink has forgotten its tails.
    assert_eq!((l.pool().missing(), tails.free()), (0, 64));
}
