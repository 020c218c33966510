use std::cell::Cell;

use router_core::Mark;

use super::*;

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn hub() -> Hub {
    let mut hub = Hub::new().unwrap();
    hub.clock = || Instant::ZERO + NOW.get();
    advance(Duration::from_secs(1));
    hub
}

fn advance(by: Duration) {
    NOW.set(NOW.get() + by);
}

/// A frame to be flooded that nobody traces.
fn flooded(frame: &[u8]) -> Flooded<'_> {
    let mark = Mark::NONE;
    Flooded { mark, frame }
}

const A: MemberId = MemberId(1);
const B: MemberId = MemberId(2);

/// A member that speaks the protocol by hand.
struct Raw(OwnedFd);

impl Raw {
    fn join(hub: &mut Hub, id: MemberId) -> Self {
        let last = u8::try_from(id.0).unwrap();
        Self(hub.add_member(id, Mac([2, 0, 0, 0, 0, last])).unwrap())
    }

    fn say(&self, message: ToHub<'_>) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        scm::send(self.0.as_fd(), &bytes, &[]).unwrap();
    }

    /// What the hub has said: each message in words, with the number of its descriptors.
    fn hear(&self) -> Vec<(String, usize)> {
        let mut heard = Vec::new();
        let mut buffer = [0; MESSAGE_MAX + 1];
        let mut fds = Vec::new();
        while let Ok(len @ 1..) = scm::recv(self.0.as_fd(), &mut buffer, &mut fds) {
            let text = match ToMember::parse(&buffer[..len]).unwrap() {
                ToMember::Welcome { member, .. } => format!("welcome {}", member.0),
                ToMember::Up { peer, .. } => format!("up {}", peer.0),
                ToMember::Down { peer, .. } => format!("down {}", peer.0),
                ToMember::Link { peer, link } => format!("link {} #{link}", peer.0),
                ToMember::Unlink { peer, link } => format!("unlink {} #{link}", peer.0),
                ToMember::Flood(flooded) => format!("flood {}", flooded.frame.len()),
            };
            heard.push((text, fds.len()));
            fds.clear();
        }
        heard
    }
}

fn words(heard: &[(String, usize)]) -> Vec<&str> {
    heard.iter().map(|h| h.0.as_str()).collect()
}

fn turn(hub: &mut Hub) {
    hub.turn(Some(Duration::ZERO)).unwrap();
}

#[test]
fn members_are_introduced_and_linked_and_regions_are_closed_then() {
    let mut hub = hub();
    let (a, b) = (Raw::join(&mut hub, A), Raw::join(&mut hub, B));
    assert_eq!(a.hear(), [("welcome 1".into(), 2), ("up 2".into(), 0)]);
    assert_eq!(b.hear(), [("welcome 2".into(), 2), ("up 1".into(), 0)]);
    a.say(ToHub::Connect { peer: B });
    turn(&mut hub);
    assert_eq!(a.hear(), [("link 2 #1".into(), 4)]);
    assert_eq!(b.hear(), [("link 1 #1".into(), 4)]);
    assert!(hub.pairs[&[A, B]].regions.is_none());
}

#[test]
fn a_repeated_request_replaces_a_link_only_after_a_while() {
    let mut hub = hub();
    let (a, b) = (Raw::join(&mut hub, A), Raw::join(&mut hub, B));
    a.say(ToHub::Connect { peer: B });
    b.say(ToHub::Connect { peer: A });
    for _ in 0..200 {
        a.say(ToHub::Connect { peer: B });
        turn(&mut hub);
    }
    assert_eq!(words(&a.hear()).last(), Some(&"link 2 #1"));
    assert_eq!(words(&b.hear()).last(), Some(&"link 1 #1"));
    advance(LINK_AGE);
    // It could not use the one it was told of.
    a.say(ToHub::Connect { peer: B });
    turn(&mut hub);
    assert_eq!(words(&a.hear()), ["link 2 #2"]);
    assert_eq!(words(&b.hear()), ["link 1 #2"]);
}

#[test]
fn a_broken_link_ends_for_both_and_a_wrong_number_ends_nothing() {
    let mut hub = hub();
    let (a, b) = (Raw::join(&mut hub, A), Raw::join(&mut hub, B));
    a.say(ToHub::Connect { peer: B });
    turn(&mut hub);
    a.hear();
    b.hear();
    for link in [0, 2, u64::MAX] {
        b.say(ToHub::Broken { peer: A, link });
        b.say(ToHub::Broken { peer: B, link });
        b.say(ToHub::Broken {
            peer: MemberId(99),
            link,
        });
    }
    turn(&mut hub);
    assert_eq!((a.hear(), b.hear()), (vec![], vec![]));
    b.say(ToHub::Broken { peer: A, link: 1 });
    turn(&mut hub);
    assert_eq!(words(&a.hear()), ["unlink 2 #1"]);
    assert_eq!(words(&b.hear()), ["unlink 1 #1"]);
    // Too soon for another one.
    b.say(ToHub::Connect { peer: A });
    turn(&mut hub);
    assert_eq!(words(&b.hear()), [""; 0]);
    advance(LINK_AGE);
    b.say(ToHub::Connect { peer: A });
    turn(&mut hub);
    assert_eq!(words(&a.hear()), ["link 2 #2"]);
}

#[test]
fn requests_for_oneself_and_for_strangers_are_ignored() {
    let mut hub = hub();
    let a = Raw::join(&mut hub, A);
    a.hear();
    a.say(ToHub::Connect { peer: A });
    a.say(ToHub::Connect { peer: MemberId(99) });
    turn(&mut hub);
    assert_eq!(a.hear(), []);
    assert_eq!(hub.counters().links, 0);
}

#[test]
fn datagrams_that_are_no_message_are_counted_and_harm_nobody() {
    let mut hub = hub();
    let (a, b) = (Raw::join(&mut hub, A), Raw::join(&mut hub, B));
    a.hear();
    b.hear();
    for bytes in [&[0][..], &[2, 99], &[1, 1, 2, 0, 0, 0], &[1; 4000]] {
        scm::send(a.0.as_fd(), bytes, &[]).unwrap();
    }
    // With descriptors, which nobody asked for.
    scm::send(a.0.as_fd(), &[2, 99], &[a.0.as_fd()]).unwrap();
    a.say(ToHub::Flood(flooded(&[7; 60])));
    turn(&mut hub);
    assert_eq!(hub.counters().malformed, 5);
    assert_eq!(words(&b.hear()), ["flood 60"]);
    assert_eq!(hub.counters().members, 2);
}

#[test]
fn a_member_that_does_not_read_catches_up_with_what_is_true_by_then() {
    let mut hub = hub();
    let (a, b) = (Raw::join(&mut hub, A), Raw::join(&mut hub, B));
    while hub.counters().floods_dropped == 0 {
        a.say(ToHub::Flood(flooded(&[7; 1500])));
        turn(&mut hub);
    }
    // Comes, goes, comes again, and a link: told none of it, as the socket is full.
    let c = MemberId(3);
    let first = Raw::join(&mut hub, c);
    assert!(hub.remove_member(c));
    let second = Raw::join(&mut hub, c);
    second.say(ToHub::Connect { peer: B });
    turn(&mut hub);
    assert!(words(&second.hear()).contains(&"link 2 #1"));
    drop(first);
    // One that it knows is replaced by another generation.
    let _successor = Raw::join(&mut hub, A);
    let before = b.hear();
    assert!(words(&before[2..]).iter().all(|w| *w == "flood 1500"));
    turn(&mut hub);
    let after = b.hear();
    assert_eq!(words(&after), ["down 1", "up 1", "up 3", "link 3 #1"]);
}

#[test]
fn a_successor_is_announced_as_another_generation_with_its_own_mac() {
    let mut hub = hub();
    let a = Raw::join(&mut hub, A);
    let _first = Raw::join(&mut hub, B);
    a.hear();
    let mac = Mac([2, 0, 0, 0, 9, 9]);
    let _second = hub.add_member(B, mac).unwrap();
    let mut buffer = [0; MESSAGE_MAX + 1];
    let mut next = || {
        let len = scm::recv(a.0.as_fd(), &mut buffer, &mut Vec::new()).unwrap();
        format!("{:?}", ToMember::parse(&buffer[..len]).unwrap())
    };
    assert_eq!(next(), "Down { peer: MemberId(2), generation: 2 }");
    let up = "Up { peer: MemberId(2), generation: 3, mac: 02:00:00:00:09:09 }";
    assert_eq!(next(), up);
}

/// The members of one node's workers: of floods the first hears, and no worker what another of its node has sent.
#[test]
fn floods_reach_the_first_worker_of_each_other_node() {
    let mut hub = hub();
    let a = Raw::join(&mut hub, A);
    let b = Raw::join(&mut hub, B);
    let second = Raw(hub.add_worker(MemberId(3), B).unwrap());
    for raw in [&a, &b, &second] {
        raw.hear();
    }
    a.say(ToHub::Flood(flooded(&[9; 60])));
    second.say(ToHub::Flood(flooded(&[9; 61])));
    hub.turn(Some(Duration::ZERO)).unwrap();
    let floods = |raw: &Raw| -> Vec<String> {
        let heard = raw.hear().into_iter().map(|(text, _)| text);
        heard.filter(|text| text.starts_with("flood")).collect()
    };
    assert_eq!(floods(&a), ["flood 61"]);
    assert_eq!(floods(&b), ["flood 60"]);
    assert!(floods(&second).is_empty());
}

#[test]
fn a_worker_needs_a_first_one_with_a_lower_number() {
    let mut hub = hub();
    let _a = Raw::join(&mut hub, B);
    let refused =
        |hub: &mut Hub, id, first| hub.add_worker(MemberId(id), first).unwrap_err().kind();
    assert_eq!(
        refused(&mut hub, 3, MemberId(9)),
        io::ErrorKind::InvalidInput
    );
    assert_eq!(refused(&mut hub, 9, MemberId(7)), io::ErrorKind::NotFound);
    assert_eq!(refused(&mut hub, 1, B), io::ErrorKind::InvalidInput);
}
