//! What NetworkPolicy decided, as a sentence.

use core::fmt;

use super::PortNames;
use crate::policy::{Direction, Judgement, PolicyName};

/// `ingress policy: allowed by default/web, rule 1 (netpol.yaml:4:9)`
pub(super) fn sentence(
    f: &mut fmt::Formatter<'_>,
    direction: Direction,
    judgement: Judgement,
    names: &dyn PortNames,
) -> fmt::Result {
    let name = |number: u32| PolicyWords(names.policy(number), number);
    let place = |number: u32| Place(names.policy(number));
    write!(f, "{} policy: ", direction.name())?;
    match judgement {
        Judgement::NotIsolated => f.write_str("the pod is not isolated"),
        Judgement::Tracked => f.write_str("belongs to a connection that was allowed"),
        Judgement::Exempt => f.write_str("from the node to its own pod, or from a pod to itself"),
        Judgement::Allowed { policy, rule } => write!(
            f,
            "allowed by {}, rule {}{}",
            name(policy),
            rule.saturating_add(1),
            place(policy)
        ),
        Judgement::Denied { policy: None } => f.write_str("no rule allows it"),
        Judgement::Denied {
            policy: Some(policy),
        } => write!(
            f,
            "no rule allows it; the pod is isolated by {}{}",
            name(policy),
            place(policy)
        ),
        Judgement::Invalid => f.write_str("INVALID at an isolated pod"),
    }
}

struct PolicyWords<'a>(Option<&'a PolicyName>, u32);

impl fmt::Display for PolicyWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(policy) => f.write_str(&policy.name),
            None => write!(f, "policy {}", self.1),
        }
    }
}

struct Place<'a>(Option<&'a PolicyName>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.and_then(|policy| policy.place.as_ref()) {
            Some(place) => write!(f, " ({place})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;
    use alloc::vec;

    use super::*;
    use crate::config::Snapshot;
    use crate::trace::Step;

    /// The policy that decided is named, with the place where it was written.
    #[test]
    fn a_decision_names_its_policy_and_place() {
        let mut snapshot = Snapshot::default();
        snapshot.policy.policies = vec![PolicyName {
            name: "default/web".into(),
            place: Some("netpol.yaml:4:9".into()),
        }];
        let allowed = Step::Policy {
            direction: Direction::Ingress,
            judgement: Judgement::Allowed { policy: 0, rule: 0 },
        };
        assert_eq!(
            allowed.sentence(&snapshot).to_string(),
            "ingress policy: allowed by default/web, rule 1 (netpol.yaml:4:9)"
        );
        assert_eq!(
            allowed.to_string(),
            "ingress policy: allowed by policy 0, rule 1"
        );
        let denied = Step::Policy {
            direction: Direction::Egress,
            judgement: Judgement::Denied { policy: Some(0) },
        };
        assert_eq!(
            denied.sentence(&snapshot).to_string(),
            "egress policy: no rule allows it; the pod is isolated by default/web (netpol.yaml:4:9)"
        );
    }
}
