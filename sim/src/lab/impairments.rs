//! `impairments` of a lab file: of a pod's link, and of the nodes' segment.
//!
//! ```text
//!   pods:    [{name: a, impairments: {delay: 20ms, jitter: 2ms, in: {loss: 1%}, out: {rate: 10mbit}}}]
//!   network: {impairments: {delay: 5ms, loss: 0.1%}}         every frame between nodes, once
//! ```
//!
//! Decides keys and syntax; values mean what they mean for `podwire link set` ([`crate::impair`]). What stands outside of
//! `in` and `out` holds for both; `in` is what the pod receives.

use super::diagnostics::Sink;
use super::read::{self, Fields};
use super::tree::Value;
use crate::impair::{Impair, LinkImpair, Shape, percent, rate, time};

pub(super) const LINK_KEYS: &[&str] = &[
    "delay",
    "jitter",
    "distribution",
    "loss",
    "duplicate",
    "corrupt",
    "reorder",
    "rate",
    "limit",
    "seed",
    "in",
    "out",
];

/// The same without directions.
pub(super) const KEYS: &[&str] = LINK_KEYS.split_at(LINK_KEYS.len() - 2).0;

/// Of a pod's link. The router receives what the pod sends.
pub(super) fn link(value: &Value, sink: &mut Sink<'_>) -> Option<LinkImpair> {
    let fields = Fields::open(value, "impairments", LINK_KEYS, sink)?;
    let both = fill(Impair::default(), &fields, sink);
    let mut direction = |key: &str| {
        let Some(value) = fields.get(key) else {
            checked(both, &fields, sink);
            return both;
        };
        match Fields::open(value, key, KEYS, sink) {
            Some(fields) => {
                let impair = fill(both, &fields, sink);
                checked(impair, &fields, sink);
                impair
            }
            None => both,
        }
    };
    let tx = direction("in");
    let rx = direction("out");
    Some(LinkImpair {
        rx,
        tx,
        down: false,
    })
}

/// Of a segment: each frame on it, once.
pub(super) fn segment(value: &Value, sink: &mut Sink<'_>) -> Option<Impair> {
    let fields = Fields::open(value, "impairments", KEYS, sink)?;
    let impair = fill(Impair::default(), &fields, sink);
    checked(impair, &fields, sink);
    Some(impair)
}

fn checked(impair: Impair, fields: &Fields<'_>, sink: &mut Sink<'_>) {
    if let Err(message) = impair.check() {
        sink.error(fields.pos, message);
    }
}

/// What `fields` say, and for the rest what `base` has.
fn fill(base: Impair, fields: &Fields<'_>, sink: &mut Sink<'_>) -> Impair {
    let mut quantity = |key: &str, parse: &dyn Fn(&str) -> Result<u64, String>, base: u64| {
        let Some(text) = fields
            .get(key)
            .and_then(|value| read::text(value, key, sink))
        else {
            return base;
        };
        parse(&text.value).unwrap_or_else(|wanted| {
            sink.error(
                text.pos,
                format!("{key} \"{}\" is not {wanted}", text.value),
            );
            base
        })
    };
    let parts = |text: &str| percent(text).map(u64::from);
    let mut share = |key: &str, base: u32| {
        u32::try_from(quantity(key, &parts, base.into())).unwrap_or(u32::MAX)
    };
    let loss = share("loss", base.loss);
    let duplicate = share("duplicate", base.duplicate);
    let corrupt = share("corrupt", base.corrupt);
    let reorder = share("reorder", base.reorder);
    let delay = quantity("delay", &time, base.delay);
    let jitter = quantity("jitter", &time, base.jitter);
    let rate = quantity("rate", &rate, base.rate);
    let distribution = fields
        .get("distribution")
        .and_then(|value| read::one_of(value, "distribution", &Shape::CHOICES, sink));
    let limit = fields
        .get("limit")
        .and_then(|value| read::number(value, "limit", 1..=100_000, sink));
    let seed = fields
        .get("seed")
        .and_then(|value| read::number(value, "seed", 0..=u64::MAX, sink));
    Impair {
        delay,
        jitter,
        distribution: distribution.map_or(base.distribution, |at| at.value),
        loss,
        duplicate,
        corrupt,
        reorder,
        rate,
        limit: limit.map_or(base.limit, |at| at.value),
        seed: seed.map_or(base.seed, |at| at.value),
    }
}
