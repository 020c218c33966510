//! Pods by namespace and label, so that a selector looks only at those that may match.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use indexmap::IndexMap;

use super::PodFacts;
use crate::kube::{LabelSelector, NAME_LABEL};

/// Places of pods that are no hostNetwork pods.
type Postings = Vec<usize>;

/// See the module.
pub(super) struct Index<'a> {
    pods: &'a [PodFacts<'a>],
    /// Labels of every namespace, by name.
    namespaces: HashMap<&'a str, IndexMap<String, String>>,
    by_namespace: HashMap<&'a str, Postings>,
    by_label: HashMap<(&'a str, &'a str, &'a str), Postings>,
}

impl<'a> Index<'a> {
    pub(super) fn new(
        pods: &'a [PodFacts<'a>],
        written: &'a IndexMap<String, IndexMap<String, String>>,
    ) -> Self {
        let mut index = Self {
            pods,
            namespaces: written
                .iter()
                .map(|(name, labels)| (name.as_str(), labels.clone()))
                .collect(),
            by_namespace: HashMap::new(),
            by_label: HashMap::new(),
        };
        for (at, pod) in pods.iter().enumerate() {
            let labels = index.namespaces.entry(pod.namespace).or_default();
            if labels.is_empty() {
                labels.insert(NAME_LABEL.to_owned(), pod.namespace.to_owned());
            }
            if pod.port.is_none() {
                continue;
            }
            index
                .by_namespace
                .entry(pod.namespace)
                .or_default()
                .push(at);
            for (key, value) in pod.labels {
                index
                    .by_label
                    .entry((pod.namespace, key, value))
                    .or_default()
                    .push(at);
            }
        }
        index
    }

    /// The pods of a namespace that a selector matches, by rising place.
    pub(super) fn pods(&self, namespace: &str, selector: &LabelSelector) -> Postings {
        let all = self.by_namespace.get(namespace);
        // The rarest of the labels that are asked for.
        let shortest = selector
            .match_labels
            .iter()
            .map(|(key, value)| {
                self.by_label
                    .get(&(namespace, key.as_str(), value.as_str()))
            })
            .min_by_key(|found| found.map_or(0, Vec::len));
        let candidates = match shortest {
            Some(found) => found,
            None => all,
        };
        candidates
            .into_iter()
            .flatten()
            .copied()
            .filter(|&at| {
                let pod = self.pods.get(at);
                pod.is_some_and(|pod| selector.matches(pod.labels))
            })
            .collect()
    }

    /// Addresses of the pods that a peer of a policy in `own` stands for.
    pub(super) fn peers(
        &self,
        own: &str,
        namespaces: Option<&LabelSelector>,
        pods: Option<&LabelSelector>,
    ) -> Vec<Ipv4Addr> {
        static EVERY: LabelSelector = LabelSelector {
            match_labels: Vec::new(),
            match_expressions: Vec::new(),
        };
        let chosen: BTreeSet<String> = match namespaces {
            None => BTreeSet::from([own.to_owned()]),
            Some(selector) => self
                .namespaces
                .iter()
                .filter(|(_, labels)| selector.matches(labels))
                .map(|(name, _)| (*name).to_owned())
                .collect(),
        };
        let selector = pods.unwrap_or(&EVERY);
        chosen
            .into_iter()
            .flat_map(|namespace| self.pods(&namespace, selector))
            .filter_map(|at| self.pods.get(at).map(|pod| pod.ip))
            .collect()
    }
}
