//! Label selectors in words, as kubectl writes them.
//!
//! Source: `metav1.FormatLabelSelector` of k8s.io/apimachinery: requirements by key, joined by commas.

use super::NONE;
use crate::kube::{LabelSelector, Operator};

/// `app=web,tier in (a,b),!legacy`; an empty selector is `<none>`.
pub(super) fn words(selector: &LabelSelector) -> String {
    if selector.is_empty() {
        return NONE.to_owned();
    }
    let mut parts: Vec<(&str, String)> = selector
        .match_labels
        .iter()
        .map(|(key, value)| (key.as_str(), format!("{key}={value}")))
        .collect();
    parts.extend(selector.match_expressions.iter().map(|requirement| {
        let key = requirement.key.as_str();
        let values = || {
            let mut values = requirement.values.clone();
            values.sort();
            values.join(",")
        };
        let text = match requirement.operator {
            Operator::In => format!("{key} in ({})", values()),
            Operator::NotIn => format!("{key} notin ({})", values()),
            Operator::Exists => key.to_owned(),
            Operator::DoesNotExist => format!("!{key}"),
        };
        (key, text)
    }));
    parts.sort_by_key(|(key, _)| *key);
    let parts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    parts.join(",")
}
